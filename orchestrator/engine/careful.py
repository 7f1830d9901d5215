"""Careful mode.

After an unclean take-over each run's first turn is taken alone, its attempt recorded before it (design.md §4).
"""

from __future__ import annotations

from ..core.decide.decision import Draft
from ..core.events import RunParked, TurnAttempted
from ..core.rows import RunRow
from .turns import RunKey, crashed_verdict


class Careful:
    """Which runs are in doubt, and the one whose attempt is on the log."""

    def __init__(self, attempts: int) -> None:
        self.on = False
        self.attempted: RunKey | None = None
        self.barrier = -1
        self.left = ""
        """Whose turn was on when the owner before ended: for messages."""
        self._attempts = attempts
        self._claimed_at_ms = 0
        self._suspects: set[RunKey] = set()
        self._safe: set[RunKey] = set()
        self._queue: dict[RunKey, int] = {}

    def begin(self, unclean: bool, now_ms: int, barrier: int, left: str = "") -> None:
        """A claim was won at `now_ms`; `unclean`: the owner before did not release.

        In doubt are the runs that were there, and those that a command below offset `barrier` starts: it may have
        been read by the owner that died of it.
        """
        self.on = unclean
        self.left = left
        self.barrier = barrier if unclean else -1
        self.attempted = None
        self._claimed_at_ms = now_ms
        self._suspects.clear()
        self._safe.clear()
        self._queue.clear()

    def suspect(self, key: RunKey) -> None:
        """A run that was started by a command which the owner before may have read."""
        self._suspects.add(key)

    def doubts(self, key: RunKey, run: RunRow) -> bool:
        """Whether this run has not had a turn since the take-over, and its attempt is not the recorded one."""
        if not self.on or key in self._safe or key == self.attempted:
            return False
        return run.started_at_ms <= self._claimed_at_ms or key in self._suspects

    def queue(self, key: RunKey, run: RunRow) -> None:
        """The run wants a turn: it gets it alone, and last if its turn was attempted before.

        Others need not wait for it.
        """
        self._queue[key] = run.attempts

    @property
    def waiting(self) -> bool:
        """Whether a run wants its first turn."""
        return bool(self._queue)

    def next(self) -> RunKey:
        """The next run that wants its first turn, left in the queue until its attempt is recorded."""
        return min(self._queue, key=self._queue.__getitem__)

    def drop(self, key: RunKey) -> None:
        """The run wants no turn any more."""
        del self._queue[key]

    def attempt(self, key: RunKey, run: RunRow) -> Draft:
        """The record that goes before the turn; instead of a third one the run is parked."""
        del self._queue[key]
        if run.attempts >= self._attempts:
            verdict = crashed_verdict(run.attempts, self.left)
            return Draft(*key, RunParked(verdict.kind, verdict.message, verdict.call_site))
        self.attempted = key
        return Draft(*key, TurnAttempted(run.attempts + 1))

    def taken(self) -> None:
        """The attempted turn is in a batch."""
        if self.attempted is not None:
            self._safe.add(self.attempted)
            self.attempted = None
