"""One dead-man's switch a process: a hung partition ends it, from a C thread that needs no GIL (design.md §4)."""

from __future__ import annotations

import faulthandler
import threading
from collections.abc import Callable, Iterable

from ..sdk.debugger import debugged
from .clock import Clock
from .partition import Partition

HUNG_S = 30.0
STDERR = 2
"""By its number: a notebook or a test may have put an object in the place of `sys.stderr`."""


class Supervisor:
    """Re-arms the switch every second, but only while no partition is past its deadline.

    Under a debugger it is off: one that stops every thread stops this one, too.
    """

    def __init__(self, partitions: Callable[[], Iterable[Partition]], clock: Clock) -> None:
        self._partitions = partitions
        self._clock = clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Arm the switch."""
        self._thread.start()

    def stop(self) -> None:
        """Disarm it."""
        self._stopped.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def hung(self) -> list[int]:
        """Partitions past their deadline."""
        now = self._clock.monotonic()
        return [partition.number for partition in self._partitions() if partition.deadline < now]

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._look()
            self._stopped.wait(1.0)

    def _look(self) -> None:
        if debugged():
            faulthandler.cancel_dump_traceback_later()
        elif not self.hung():
            faulthandler.dump_traceback_later(HUNG_S, exit=True, file=STDERR)
