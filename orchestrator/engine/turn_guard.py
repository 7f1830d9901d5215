"""Ends a turn that does not yield."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..sdk.debugger import debugged
from ..sdk.garbage import Spent, collected, collecting
from ..sdk.turn import Overlong

WAITS = 5
"""How many times longer than it may compute a turn may take that waits: for a file, for a lock, for its processor."""
AGAIN_S = 0.2
"""After which time a turn that swallowed its end is ended again."""
_clock_of: Callable[[int], int] | None = getattr(time, "pthread_getcpuclockid", None)
"""Where there is none (macOS), the wall clock counts."""


@dataclass(slots=True)
class _Armed:
    """A turn under way. `collected`: what collections had taken from its thread before it.

    `computed_s`: what its thread had computed when it was first looked at; to ask at every beginning is a system call.
    """

    began_s: float
    collected: Spent
    computed_s: float | None = None
    debugged: bool = False


class TurnGuard:
    """Ends a turn that does not yield: raises `Overlong` in the partition's thread (design.md §4, careful mode).

    What counts is what its thread computed: neither a machine with too much to do nor a collection of garbage that came
    in its middle makes a turn too long. One in whose course a debugger was seen takes as long as it takes.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._look_s = min(0.1, limit_s / 4)
        self._lock = threading.Lock()
        self._armed: dict[int, _Armed] = {}
        self._fired: dict[int, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="turn-guard", daemon=True)
        self._thread.start()

    def arm(self) -> None:
        """The calling thread's turn begins."""
        thread = threading.get_ident()
        turn = _Armed(time.monotonic(), collected(thread))
        with self._lock:
            self._armed[thread] = turn

    def disarm(self) -> bool:
        """It ended; whether it was too long.

        Under the lock that `arm` takes: the exception can only land in between.
        """
        thread = threading.get_ident()
        with self._lock:
            self._armed.pop(thread, None)
            if self._fired.pop(thread, None) is None:
                return False
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
            return True

    def stop(self) -> None:
        """End the watching thread."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._look_s):
            now = time.monotonic()
            with self._lock:
                for thread, turn in self._armed.items():
                    passed_s = now - turn.began_s - collected(thread).since(turn.collected).passed_s
                    # Nearly every turn is over by the next look.
                    if turn.debugged or passed_s < self._look_s:
                        continue
                    turn.debugged = debugged()
                    if not turn.debugged and not collecting(thread) and self._over(thread, turn, passed_s):
                        self._end(thread, now)

    def _over(self, thread: int, turn: _Armed, passed_s: float) -> bool:
        if _clock_of is None or passed_s >= WAITS * self._limit_s:
            return passed_s >= self._limit_s
        computed_s = time.clock_gettime(_clock_of(thread)) - collected(thread).computed_s
        if turn.computed_s is None:
            turn.computed_s = computed_s
        return computed_s - turn.computed_s >= self._limit_s - self._look_s

    def _end(self, thread: int, now: float) -> None:
        # Again and again: code that swallows the exception is ended all the same.
        if now - self._fired.get(thread, 0.0) >= AGAIN_S:
            self._fired[thread] = now
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Overlong))
