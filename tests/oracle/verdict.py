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
DIVERGED = "diverged state"
LATE_TIMER = "late timer"
HANGING = "hanging transaction"
DELAYED = "delayed by poison"
NOT_PARKED = "poison not parked"
REPEATED_EFFECT = "repeated effect"
LOST_EFFECT = "lost effect"

LAWS: dict[str, tuple[str, ...]] = {
    "I1": (DUPLICATE, ABORTED_READ, PHANTOM, LOST_WRITE),
    "I2": (DUPLICATE, LOST_WRITE, UNSEEN, PREMATURE_REPLY),
    "I3": (DIVERGED, STATE_AHEAD),
    "I4": (LOST_WRITE, DUPLICATE, CORRUPTION, TORN, NONMONOTONIC, UNSEEN),
    "I5": (LOST_WRITE, DUPLICATE, NONMONOTONIC),
    "I6": (DUPLICATE, EARLY_TIMER, LATE_TIMER, PHANTOM),
    "I7": (HANGING,),
    "I8": (OFFSETS,),
    "I9": (ABORTED_READ,),
    "I10": (LOST_WRITE, DUPLICATE, WRONG_RESULT, UNSEEN),
    "I11": (DELAYED, NOT_PARKED),
    "I12": (PREMATURE_EFFECT, REPEATED_EFFECT, LOST_EFFECT),
}
"""By law of docs/invariants.md: what its breach can be called. Every anomaly says its law at the end of its detail."""


class Anomaly(NamedTuple):
    """One thing that must not be: its name, where it is, what was seen."""

    name: str
    where: str
    detail: str

    @property
    def law(self) -> str:
        """The law that is broken."""
        return self.detail.rpartition("(")[2].removesuffix(")")


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
        return sum(anomaly.name in (LOST_WRITE, UNSEEN, LOST_EFFECT) for anomaly in self.anomalies)

    @property
    def duplicated(self) -> int:
        """Things that happened twice."""
        return sum(anomaly.name in (DUPLICATE, REPEATED_EFFECT) for anomaly in self.anomalies)

    def text(self) -> str:
        """For messages of tests."""
        lines = [f"{a.name}: {a.where}: {a.detail}" for a in self.anomalies[:40]]
        return "\n".join([f"{len(self.anomalies)} anomalies; {dict(self.totals)}", *lines])
