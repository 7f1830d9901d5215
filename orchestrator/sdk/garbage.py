"""Garbage that Python collects in the middle of a turn is not the run's.

A collection may come at any allocation and finalizes whatever lay around in the process: an HTTP client that asks for
the running loop in order to close itself would get the run's, and a task there that no replay makes again. So while a
thread collects, no run's loop is current on it.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any, NamedTuple

from .loop import RunLoop, running_loop


class Spent(NamedTuple):
    """Seconds of a thread: by the clock on the wall, and of its processor."""

    passed_s: float = 0.0
    computed_s: float = 0.0

    @classmethod
    def now(cls) -> Spent:
        """Of the calling thread; only differences mean something."""
        return cls(time.monotonic(), time.thread_time())

    def since(self, earlier: Spent) -> Spent:
        """What was spent between two moments."""
        return Spent(self.passed_s - earlier.passed_s, self.computed_s - earlier.computed_s)


_interrupted: dict[int, tuple[RunLoop, Spent]] = {}
"""By thread: the loop whose turn a collection interrupts now, and when it began."""
_collected: dict[int, Spent] = {}
_NOTHING = Spent()


def install() -> None:
    """Once a process. Collections outside turns are left as they are."""
    if _hook not in gc.callbacks:
        gc.callbacks.append(_hook)


def collecting(thread: int) -> bool:
    """Whether a collection interrupts the turn on this thread now."""
    return thread in _interrupted


def collected(thread: int) -> Spent:
    """What collections took from turns on this thread so far."""
    return _collected.get(thread, _NOTHING)


def _hook(phase: str, info: dict[str, Any]) -> None:
    thread = threading.get_ident()
    if phase == "start":
        loop = running_loop()
        if loop is not None:
            _interrupted[thread] = loop, Spent.now()
            asyncio._set_running_loop(None)
        return
    interrupted = _interrupted.pop(thread, None)
    if interrupted is not None:
        loop, began = interrupted
        asyncio._set_running_loop(loop)
        took, before = Spent.now().since(began), collected(thread)
        _collected[thread] = Spent(before.passed_s + took.passed_s, before.computed_s + took.computed_s)
