"""Whether somebody looks into this process with a debugger: then no time-out and no watchdog of its own may strike."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType
from typing import Any

_DEBUGGERS = frozenset({"bdb", "pdb"})
_NO_DEBUGGERS = ("coverage",)
"""Modules whose trace functions only count lines."""


_asking = threading.Lock()


def debugged() -> bool:
    """Whether a debugger is attached to this process, or holds or steps through one of its threads.

    Seen from any thread, at any moment: a `breakpoint()` in the middle of a turn counts while it is open. Costs a walk
    over every thread's frames: ask when something is about to be ended.
    """
    return _traces(threading.gettrace()) or _monitored() or _attached() or _held()


def _held() -> bool:
    """Whether a thread is held or stepped through.

    Without a garbage collection meanwhile: one runs callbacks, which give the GIL away. CPython 3.11 asks for frames
    under a lock that a thread's start needs while it holds the GIL: a whole process stood still. And `f_back` makes the
    frame's object from where another thread stands: when that went on meanwhile, the process died (SIGSEGV).
    """
    with _asking:
        collects = gc.isenabled()
        gc.disable()
        try:
            return any(_holds(frame) for frame in sys._current_frames().values())  # noqa: SLF001  # documented so
        finally:
            if collects:
                gc.enable()


def _monitored() -> bool:
    """Debuggers of 3.12 and later take a tool id of the interpreter, for all threads at once."""
    monitoring: Any = getattr(sys, "monitoring", None)
    return monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None


def _attached() -> bool:
    """pydevd, which VS Code (debugpy) and PyCharm bring: loaded is not attached, where it can be asked."""
    pydevd: Any = sys.modules.get("pydevd")
    if pydevd is None:
        return False
    ask = getattr(pydevd, "get_global_debugger", None)
    return ask is None or ask() is not None


def _holds(innermost: FrameType) -> bool:
    """Whether a thread stands in a debugger's prompt, or runs frames that one traces.

    The outermost frame is left out: pdb's `continue` leaves its trace function there for good.
    """
    frame: FrameType | None = innermost
    while frame is not None:
        if frame.f_globals.get("__name__") in _DEBUGGERS or (frame.f_back is not None and _traces(frame.f_trace)):
            return True
        frame = frame.f_back
    return False


def _traces(function: Any) -> bool:
    if function is None:
        return False
    module = getattr(function, "__module__", None) or type(function).__module__
    return not str(module).startswith(_NO_DEBUGGERS)
