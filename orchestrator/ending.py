"""What a signal handler tells the main thread."""

from __future__ import annotations

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
