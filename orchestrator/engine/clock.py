"""The log's clock: max(wall clock, last + elapsed monotonic / 2).

It never runs back, and a wall clock's jump back only slows it.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Time as a process sees it."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never run back."""


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


SYSTEM_CLOCK = SystemClock()


class LogClock:
    """The clock of one partition's log, continued from the last footer's `now_ms`.

    `ahead_ms` is taken off a wall clock that is known to be wrong: what it says must not become the log's time.
    """

    def __init__(self, clock: Clock, last_ms: int = 0, ahead_ms: int = 0) -> None:
        self._clock = clock
        self._ahead_ms = ahead_ms
        self._last_ms = last_ms
        self._read_at = clock.monotonic()

    def now_ms(self) -> int:
        """The log's time now; what a batch decides by and its footer records."""
        monotonic = self._clock.monotonic()
        floor = self._last_ms + int((monotonic - self._read_at) * 500)
        self._last_ms = max(self._clock.wall_ms() - self._ahead_ms, floor)
        self._read_at = monotonic
        return self._last_ms
