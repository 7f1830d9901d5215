"""What a signal handler tells the main thread."""

from __future__ import annotations

from queue import Empty, SimpleQueue


class Ending:
    """A flag that is set once, by a signal handler or by another thread, and waited for by the main thread.

    No `threading.Event`: who waits for one holds its lock for a moment, the handler runs in that very thread, and asks
    for the same lock. `SimpleQueue.put` alone is documented as reentrant.
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
