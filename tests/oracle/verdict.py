"""What the oracle says: anomalies by Jepsen's names, and totals."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

LOST_WRITE = "lost write"
DUPLICATE = "duplicate"
ABORTED_READ = "aborted read"
UNSEEN = "unseen"
TORN = "torn transaction"
OFFSETS = "inconsistent offsets"
NONMONOTONIC = "nonmonotonic"
CORRUPTION = "corruption"
PHANTOM = "phantom"
WRONG_RESULT = "wrong result"
EARLY_TIMER = "early timer"
PREMATURE_EFFECT = "premature effect"
PREMATURE_REPLY = "premature reply"
STATE_AHEAD = "state ahead of log"


class Anomaly(NamedTuple):
    """One thing that must not be: its name, where it is, what was seen."""

    name: str
    where: str
    detail: str


class Verdict(NamedTuple):
    """Everything that was found. `totals` counts what the log holds."""

    anomalies: list[Anomaly]
    totals: Counter[str]

    @property
    def names(self) -> set[str]:
        """The anomalies' names."""
        return {anomaly.name for anomaly in self.anomalies}

    @property
    def lost(self) -> int:
        """Writes that are gone or were never taken."""
        return sum(anomaly.name in (LOST_WRITE, UNSEEN) for anomaly in self.anomalies)

    @property
    def duplicated(self) -> int:
        """Things that happened twice."""
        return sum(anomaly.name == DUPLICATE for anomaly in self.anomalies)

    def text(self) -> str:
        """For messages of tests."""
        lines = [f"{a.name}: {a.where}: {a.detail}" for a in self.anomalies[:40]]
        return "\n".join([f"{len(self.anomalies)} anomalies; {dict(self.totals)}", *lines])
