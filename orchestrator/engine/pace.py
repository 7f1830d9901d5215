"""How long batches take to make of late: between long ones there is room for what others are in the middle of."""

from __future__ import annotations

from .inbox import Inbox

LONGER = 1.2
FORGETS = 0.8
BETWEEN_S = 0.01
"""About so long a footer, a step or an answer on its way needs to come back: a fraction of a long batch."""


class Pace:
    """A batch is long when a turn in it issues much: it is closed after its time, but never in the middle of a turn.

    Then whoever is in the middle of something would wait for a long batch at each of its steps. So there is a moment
    between two long ones, and a batch that holds something is closed before another run begins.
    """

    def __init__(self, batch_ms: int) -> None:
        self._long_s = LONGER * batch_ms / 1000
        self._made_s = 0.0

    @property
    def slow(self) -> bool:
        """Whether the next batch may be long."""
        return self._made_s > self._long_s

    def made(self, seconds: float) -> None:
        """A batch took so long to make. A long one counts for a few."""
        self._made_s = max(seconds, FORGETS * self._made_s)

    def footer_is_near(self, inbox: Inbox) -> bool:
        """Whether something was read back; before a long batch that is waited for."""
        return bool(inbox.tail) or (self.slow and inbox.wait_tail(BETWEEN_S))

    def rest(self, inbox: Inbox) -> None:
        """Before a long batch, let come back what was just set going."""
        if self.slow:
            inbox.pause_for(BETWEEN_S)
