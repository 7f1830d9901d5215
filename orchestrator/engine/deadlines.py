"""Moments that only this owner waits for and no log needs to know.

Re-offers, interruptions, local time-outs, callers' patience.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """A heap by monotonic time (seconds)."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()

    def add(self, due: float, item: T) -> None:
        """Wait for `due`."""
        heapq.heappush(self._heap, (due, next(self._order), item))

    def due(self, now: float) -> list[T]:
        """Everything due by `now`, earliest first, taken out."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            found.append(heapq.heappop(self._heap)[2])
        return found

    def next(self) -> float | None:
        """The earliest moment, or None."""
        return self._heap[0][0] if self._heap else None

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
