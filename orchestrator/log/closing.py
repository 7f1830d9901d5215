"""Clients are closed side by side and within a time.

A close of librdkafka's waits for a coordinator that is gone as long as a session lasts, 45 s unless it is told.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

CLOSE_S = 2.0
"""How long clients may take to close."""
LEAVE_S = 4.0
"""How long a member may take to tell its group's coordinator its last offsets, and that it leaves."""
FLUSH_S = 3.0
"""How long records that are queued may take to be acknowledged when their producer is closed."""


def close_all(closes: Mapping[str, Callable[[], object]], within_s: float) -> bool:
    """Close them; whether all were in time. What is late is named, and ends with the process."""
    threads = {
        what: threading.Thread(target=close, name=f"closing-{what}", daemon=True) for what, close in closes.items()
    }
    for thread in threads.values():
        thread.start()
    until = time.monotonic() + within_s
    for thread in threads.values():
        thread.join(max(0.0, until - time.monotonic()))
    late = [what for what, thread in threads.items() if thread.is_alive()]
    if late:
        log.warning("not closed within %g s, left to the end of the process: %s", within_s, ", ".join(late))
    return not late
