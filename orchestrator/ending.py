"""The end of a process: what a signal handler tells the main thread, and how the last of it goes."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from queue import Empty, SimpleQueue


class Ending:
    """A flag that is set once, by a signal handler or by another thread, and waited for by the main thread.

    No `threading.Event`: who waits for one holds its lock for a moment, the handler runs in that very thread, and asks
    for the same lock. `SimpleQueue.put` alone is documented as reentrant.

    Wait in short rounds: the kernel may hand a signal to any thread, and Python then calls the handler when the main
    thread wakes next (observed: one SIGTERM in seventy was not heard before the end of the wait).
    """

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """The end is wanted."""
        self._told.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Whether it was set before or within `timeout_s` seconds."""
        try:
            self._told.get(timeout=timeout_s)
        except Empty:
            return False
        self.set()
        return True


class Leaving:
    """A process that has ended in order leaves without the interpreter's teardown. Make it before user code is loaded.

    What is left by then, clients of librdkafka and databases with threads of their own, is taken down in no order
    there: seen in a campaign, an engine that had released everything ended with SIGSEGV in its main thread, below every
    frame of Python. Exit functions run as ever: this one, registered first, is the last.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        """The exit code, once everything of ours has ended; None: as if this were not here."""
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.code is None:
            return
        for stream in (sys.stdout, sys.stderr):
            # Closed, or nobody reads it any more.
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(self.code)
