"""What turns came to, added up: of a turn, of a slice, of a whole campaign."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.faults.campaign import Found

MOST_ANOMALIES = 40


@dataclass
class Tally:
    """Counts of what was done and seen. `faults` counts those that really happened, by name.

    `anomalies` are sentences; `notes` what else is worth a line of the report.
    """

    kills: int = 0
    runs: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicated: int = 0
    anomalies: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take another one in."""
        self.kills += other.kills
        self.runs += other.runs
        self.steps += other.steps
        self.faults += other.faults
        self.lost += other.lost
        self.duplicated += other.duplicated
        self.anomalies += other.anomalies
        self.notes += other.notes

    def judged(self, found: Found) -> Tally:
        """Take in what the oracle said of an application, and what must be so besides."""
        verdict = found.verdict
        self.runs += verdict.totals["runs"]
        self.steps += verdict.totals["step_results"]
        self.lost += verdict.lost
        self.duplicated += verdict.duplicated
        self.anomalies += [f"{a.name}: {a.where}: {a.detail}" for a in verdict.anomalies[:MOST_ANOMALIES]]
        if verdict.totals["completed"] != found.expected:
            self.anomalies.append(f"{verdict.totals['completed']} runs completed of {found.expected}")
        if found.receipts < verdict.totals["step_results"]:
            self.anomalies.append(f"{found.receipts} effects for {verdict.totals['step_results']} results")
        if found.open_transactions:
            self.anomalies.append(f"transactions are open in partitions {list(found.open_transactions)} (I7)")
        if found.resumed:
            self.notes.append(f"{found.resumed} parked runs resumed by a person")
        return self

    def said(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "faults": dict(sorted(self.faults.items()))}

    @classmethod
    def heard(cls, said: dict[str, Any]) -> Tally:
        """From JSON."""
        return cls(**{**said, "faults": Counter(said["faults"])})
