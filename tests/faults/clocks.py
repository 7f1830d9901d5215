"""Wall clocks that jump and strobe while an engine works; monotonic ones go on as they are."""

from __future__ import annotations

import random
import threading
from collections import Counter

from orchestrator.engine.clock import SystemClock

HOUR_MS = 3_600_000
KINDS = {
    "forward": (0, HOUR_MS),
    "backward": (0, -HOUR_MS),
    "strobe": (-200, 200),
    "wild": (0, -200, 200, 4_000, -4_000, HOUR_MS, -HOUR_MS, 24 * HOUR_MS, -24 * HOUR_MS),
}
"""Offsets from the right time, of which the next one is chosen."""


class JumpingClock(SystemClock):
    """The machine's clock, set anew by somebody else about every `every_s` seconds."""

    def __init__(self, kind: str, seed: int, every_s: float = 0.1) -> None:
        self.jumps: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._offsets = KINDS[kind]
        self._every_s = every_s
        self._lock = threading.Lock()
        self._off_ms = 0
        self._next = self.monotonic() + every_s
        self._right = False

    def set_right(self) -> None:
        """From now on it is what it should be."""
        with self._lock:
            self._off_ms, self._right = 0, True

    def wall_ms(self) -> int:
        """As it is set now."""
        with self._lock:
            now = self.monotonic()
            if now >= self._next and not self._right:
                self._next = now + self._rng.uniform(0, 2 * self._every_s)
                before, self._off_ms = self._off_ms, self._rng.choice(self._offsets)
                if self._off_ms != before:
                    self.jumps["clock set forward" if self._off_ms > before else "clock set back"] += 1
            return super().wall_ms() + self._off_ms
