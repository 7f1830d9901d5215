"""Workflow code has no sockets, processes, writing files, threads or real sleeps.

An audit hook catches them while a run's loop is current.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
import time
from collections.abc import Iterable
from functools import wraps
from typing import Any

from .loop import running_loop

SLEEP = "time.sleep (await asyncio.sleep is durable)"
EVENTS = {
    "socket.connect": "a network connection",
    "socket.bind": "a network socket",
    "socket.getaddrinfo": "a name look-up",
    "socket.gethostbyname": "a name look-up",
    "socket.sendto": "sending over the network",
    "socket.sendmsg": "sending over the network",
    "subprocess.Popen": "a subprocess",
    "os.system": "a subprocess",
    "os.posix_spawn": "a subprocess",
    "os.fork": "a fork",
    "os.exec": "another program",
    "os.spawn": "a subprocess",
    "_thread.start_new_thread": "a thread",
    "_thread.start_joinable_thread": "a thread",
    "time.sleep": SLEEP,
}
_WRITING = frozenset("wax+")
_WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_installed = False


def install() -> None:
    """Once a process; hooks cannot be taken out again, and outside a run's loop this one does nothing."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)
        if sys.version_info < (3, 13):
            _guard_sleep()
        if sys.version_info < (3, 12):
            _guard_threads()
        _order_as_completed()


def _guard_sleep() -> None:
    """Before 3.13 `time.sleep` raises no audit event."""
    original = time.sleep

    @wraps(original)
    def sleep(seconds: float, /) -> None:
        loop = running_loop()
        if loop is not None:
            raise loop.forbid(SLEEP)
        original(seconds)

    time.sleep = sleep  # type: ignore[assignment]


def _guard_threads() -> None:
    """Before 3.12 the start of a thread raises no audit event."""
    original = threading.Thread.start

    @wraps(original)
    def start(self: threading.Thread) -> None:
        loop = running_loop()
        if loop is not None:
            raise loop.forbid(EVENTS["_thread.start_new_thread"])
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]


def _order_as_completed() -> None:
    """asyncio makes the tasks of `as_completed` from a set, in the order of addresses: here in the list's."""
    original = asyncio.as_completed

    @wraps(original)
    def as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
        if running_loop() is not None:
            fs = [asyncio.ensure_future(one) for one in dict.fromkeys(fs)]
        return original(fs, timeout=timeout)

    asyncio.as_completed = asyncio.tasks.as_completed = as_completed


def _hook(event: str, args: tuple[Any, ...]) -> None:
    what = EVENTS.get(event)
    if what is None:
        if event != "open" or not _writes(args[1], args[2]) or running_loop() is None or _importing():
            return
        what = f"opening {args[0]!r} for writing"
    loop = running_loop()
    if loop is not None:
        raise loop.forbid(what)


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return bool(_WRITING & set(mode))
    return isinstance(flags, int) and bool(_WRITING_FLAGS & flags)


def _importing() -> bool:
    """A first import inside a run writes its bytecode: that is Python's own doing."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame.f_back if frame is not None else None
    return frame is not None and frame.f_globals.get("__name__", "").startswith(("importlib.", "_frozen_importlib"))
