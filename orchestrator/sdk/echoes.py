"""Log lines of a replay are echoes: workflow code said them when its turn was taken, so they are dropped.

Loggers, not handlers, are where they end: whatever handlers an application has or adds later are left as they are.
"""

from __future__ import annotations

import logging
from functools import wraps

from .loop import running_loop

_installed = False


def install() -> None:
    """Once a process. Outside a run's loop, and in a turn that is taken for the first time, nothing is dropped."""
    global _installed
    if _installed:
        return
    _installed = True
    original = logging.Logger.handle

    @wraps(original)
    def handle(self: logging.Logger, record: logging.LogRecord) -> None:
        loop = running_loop()
        if loop is None or not loop.muted:
            original(self, record)

    logging.Logger.handle = handle  # type: ignore[method-assign]
