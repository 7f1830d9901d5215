"""The engine's clock against the broker's (LogAppendTime), which no engine can set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from ..core.events import Event

KEPT = 200


class Clocks:
    """One partition's. `tolerance_ms` 0: distances are measured and not judged.

    A clock that is off is off for long: a stretch of batches beyond the tolerance is named once, where it begins.
    """

    def __init__(self, tolerance_ms: int) -> None:
        self.max_skew_ms = 0
        self._tolerance_ms = tolerance_ms
        self._off = False
        self._now_ms = 0
        self._found: list[tuple[int, str]] = []

    def footer(self, recorded_ms: int, broker_ms: int, offset: int) -> None:
        """A batch whose footer the engine recorded and the broker appended at these times; broker's 0: unknown."""
        self._now_ms = max(self._now_ms, recorded_ms)
        if broker_ms <= 0:
            return
        skew = broker_ms - recorded_ms
        if abs(skew) > abs(self.max_skew_ms):
            self.max_skew_ms = skew
        off = 0 < self._tolerance_ms < abs(skew)
        if off and not self._off:
            side = "before" if skew > 0 else "after"
            times = f"the engine says {_text(recorded_ms)}, the broker appended it at {_text(broker_ms)}"
            self._add(offset, f"a clock was set {abs(skew) / 1000:.0f} s {side} the broker's: {times}")
        self._off = off

    def events(self, events: Sequence[Event], offsets: Sequence[int], now_ms: int) -> None:
        """A batch's events, before its footer, which says `now_ms`: no moment lies outside the batch's own."""
        for event, offset in zip(events, offsets, strict=True):
            at = event.recorded_at_ms
            if not self._now_ms <= at <= now_ms:
                batch = f"its batch lies between {_text(self._now_ms)} and {_text(now_ms)}"
                self._add(offset, f"an event recorded at {_text(at)}, {batch}")

    def end(self, accepted_from: int) -> Iterator[tuple[int, str]]:
        """(offset, what is wrong); a person who took over a log at `accepted_from` took its times too: brokers stamp
        a copy anew.
        """
        return ((offset, what) for offset, what in self._found if offset >= accepted_from)

    def _add(self, offset: int, what: str) -> None:
        if len(self._found) < KEPT:
            self._found.append((offset, what))


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
