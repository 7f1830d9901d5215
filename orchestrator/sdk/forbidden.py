"""Workflow code has no sockets, processes, writing files, threads or real sleeps.

An audit hook catches them while a run's loop is current.
"""

from __future__ import annotations

import sys
from typing import Any

from .loop import running_loop

EVENTS = {
    "socket.connect": "a network connection",
    "socket.bind": "a network socket",
    "socket.getaddrinfo": "a name look-up",
    "subprocess.Popen": "a subprocess",
    "os.system": "a subprocess",
    "os.posix_spawn": "a subprocess",
    "os.fork": "a fork",
    "_thread.start_new_thread": "a thread",
    "time.sleep": "time.sleep (await asyncio.sleep is durable)",
}
_WRITING = frozenset("wax+")
_installed = False


def install() -> None:
    """Once a process; hooks cannot be taken out again, and outside a run's loop this one does nothing."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    what = EVENTS.get(event)
    if what is None:
        if event != "open" or not isinstance(args[1], str) or not _WRITING & set(args[1]):
            return
        what = f"opening {args[0]!r} for writing"
    loop = running_loop()
    if loop is not None:
        raise loop.forbid(what)
