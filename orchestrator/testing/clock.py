"""A clock that runs as the machine's does and can be put forward: a week passes in a test without waiting for it."""

from __future__ import annotations

import threading
import time


class SkippingClock:
    """The machine's clocks plus what was skipped (`Clock`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._skipped_s = 0.0

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000 + int(self._skipped_s * 1000)

    def monotonic(self) -> float:
        """Seconds that never run back."""
        return time.monotonic() + self._skipped_s

    def skip(self, seconds: float) -> None:
        """Put the clock forward."""
        with self._lock:
            self._skipped_s += max(0.0, seconds)
