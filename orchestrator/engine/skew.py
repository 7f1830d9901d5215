"""This process's clock against the brokers', which stamp every record as they append it (design.md §6)."""

from __future__ import annotations

from ..errors import OrchestratorError
from .clock import Clock


class ClockSkewed(OrchestratorError):
    """This process's clock is too far from the brokers' to decide by: timers would fire early, or late."""


class Skew:
    """What a claim tells of two clocks: the brokers appended it between its sending and its coming back."""

    def __init__(self, clock: Clock, bound_ms: int) -> None:
        """Clocks may be `bound_ms` apart; 0: they are not compared."""
        self._clock = clock
        self._bound_ms = bound_ms
        self._sent_ms = 0
        self.ms = 0
        """How far our clock is ahead of the brokers' (negative: behind), at least."""

    def claim_is_sent(self) -> None:
        """Its record is about to leave."""
        self._sent_ms = self._clock.wall_ms()

    def claim_came_back(self, appended_ms: int) -> None:
        """It was read back, with the time of the broker that appended it."""
        ahead, behind = self._sent_ms - appended_ms, self._clock.wall_ms() - appended_ms
        self.ms = ahead if ahead > 0 else min(behind, 0)

    @property
    def ahead_ms(self) -> int:
        """What must be taken off our clock before its time may be recorded; 0 while it is within the bound."""
        return self.ms if 0 < self._bound_ms < abs(self.ms) else 0

    def check(self, where: str) -> None:
        """Raises ClockSkewed when our clock is no clock to decide by."""
        if self.ahead_ms:
            raise ClockSkewed(
                f"{where}: this machine's clock is {abs(self.ms) / 1000:.1f} s"
                f" {'ahead of' if self.ms > 0 else 'behind'} the brokers', more than {self._bound_ms / 1000:g} s: the"
                " partition is released. Set the clocks right (NTP), on whichever side is wrong, or stop this engine"
            )
