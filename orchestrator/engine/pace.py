"""How long turns have taken of late: between long ones there is room for what others are in the middle of."""

from __future__ import annotations

import time

from .inbox import Inbox

LONG = 0.5
"""Of the time that a batch may take turns for: a turn so long is most of its batch."""
FORGETS = 0.8
BETWEEN_S = 0.01
"""About so long a footer, a step or an answer on its way needs to come back: a fraction of a long turn."""


class Pace:
    """A batch takes no turn after its time, but no turn is cut: one that issues much makes a batch as long as it is.

    Then whoever is in the middle of something would wait for a long batch at each of its steps. So there is a moment
    between two long ones, and a batch that holds something is closed before another run begins.
    """

    def __init__(self, batch_ms: int) -> None:
        self._long_s = LONG * batch_ms / 1000
        self._took_s = self._cuts_until = 0.0

    @property
    def slow(self) -> bool:
        """Whether the next batch may be long."""
        return self._took_s > self._long_s

    @property
    def cuts(self) -> bool:
        """Whether the next batch ends before a run begins: for as long as the long turn before it took."""
        return time.perf_counter() < self._cuts_until

    def took(self, seconds: float) -> None:
        """The longest turn of a batch, with what it issued, took so long; a long one counts for a few batches.

        One that is taken while runs wait makes them wait no longer: turns that follow each other would for ever.
        """
        self._took_s = max(seconds, FORGETS * self._took_s)
        now = time.perf_counter()
        if seconds > self._long_s and now >= self._cuts_until:
            self._cuts_until = now + seconds

    def footer_is_near(self, inbox: Inbox) -> bool:
        """Whether something was read back; before a long batch that is waited for."""
        return bool(inbox.tail) or (self.slow and inbox.wait_tail(BETWEEN_S))

    def rest(self, inbox: Inbox) -> None:
        """Before a long batch, let come back what was just set going."""
        if self.slow:
            inbox.pause_for(BETWEEN_S)
