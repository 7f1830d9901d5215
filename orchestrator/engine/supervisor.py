"""One dead-man's switch a process: a hung partition ends it, if need be without the GIL (design.md §4)."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
from collections.abc import Callable, Iterable

from ..sdk.debugger import debugged
from .clock import Clock
from .partition import Partition

HUNG_S = 30.0
LOOK_S = 1.0
HELD_S = 5.0
"""How much later the C thread strikes: then nobody else in the process has had the GIL."""
STDERR = 2
"""By its number: a notebook or a test may have put an object in the place of `sys.stderr`."""


class _Switch:
    """The process's: faulthandler has one timer. Any of its supervisors (a test has several) re-arms it."""

    def __init__(self) -> None:
        self.hung_s = 0.0
        """By a supervisor's own looks: a process that was stopped for a while was not hung."""

    def arm(self) -> None:
        self.hung_s = 0.0
        faulthandler.dump_traceback_later(HUNG_S + HELD_S, exit=True, file=STDERR)

    def off(self) -> None:
        self.hung_s = 0.0
        faulthandler.cancel_dump_traceback_later()


_switch = _Switch()


class Supervisor:
    """Re-arms the switch every second, but only while no partition is past its deadline.

    It strikes itself when it can: it holds the GIL, so that what it prints stands still. The C thread reads the frames
    of threads that run, of which a process may die (SIGSEGV) before all are printed.

    A process that was stopped (SIGSTOP) for longer than the C thread waits may be ended by it as it goes on: that one
    counts by a clock that does not stop.

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
        _switch.off()

    def hung(self) -> list[int]:
        """Partitions past their deadline."""
        now = self._clock.monotonic()
        return [partition.number for partition in self._partitions() if partition.deadline < now]

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._look()
            self._stopped.wait(LOOK_S)

    def _look(self) -> None:
        hung = self.hung()
        if debugged():
            _switch.off()
        elif not hung:
            _switch.arm()
        elif _switch.hung_s >= HUNG_S:
            _end(hung)
        else:
            _switch.hung_s += LOOK_S


def _end(hung: list[int]) -> None:
    numbers = ", ".join(map(str, hung))
    said = (
        f"partition {numbers} has not moved for {HUNG_S:.0f} s after its time was up: this process ends. Its threads:\n"
    )
    with contextlib.suppress(OSError):
        os.write(STDERR, said.encode())
    faulthandler.dump_traceback(file=STDERR, all_threads=True)
    os._exit(1)
