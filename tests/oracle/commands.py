"""Laws of inputs and answers: one outcome a command, the input position, replies, time-outs too soon (I2, I8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .avro import Undecodable, decode
from .batches import Fact, PartitionView
from .raw import ByPartition, RawRecord
from .verdict import DUPLICATE, EARLY_TIMER, LOST_WRITE, OFFSETS, PREMATURE_REPLY, UNSEEN, Anomaly, Verdict

SILENT = {"StepLeaseExpired", "StepTimeout"}
UNRECORDED = {"update_rejected", "unknown_update", "no_code", "overloaded"}
"""Codes of refusals that leave nothing on the log."""
SLACK_MS = 50
"""How far the log's clock and the broker's may differ on one machine before a report's time proves anything."""


class Input(NamedTuple):
    """One record of the commands topic: `name` "" when its bytes are no command."""

    raw: RawRecord
    name: str
    fields: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """(workflow id, command id): what duplicates share."""
        return self.fields.get("workflow_id", ""), self.fields.get("id", "")


def read_inputs(records: ByPartition) -> list[Input]:
    """Every command, undecodable ones included."""
    found = []
    for number in sorted(records):
        for raw in records[number]:
            try:
                decoded = decode(raw.value)
            except Undecodable:
                found.append(Input(raw, "", {}))
                continue
            is_command = decoded.kind == "commands"
            found.append(Input(raw, decoded.name if is_command else "", decoded.fields if is_command else {}))
    return found


class Outcomes:
    """Which visible event answers which command, and which input offsets are reflected."""

    def __init__(self, facts: Iterable[Fact], verdict: Verdict) -> None:
        self.by_command: dict[tuple[str, str], Fact] = {}
        self.by_offset: dict[tuple[int, int], Fact] = {}
        self._ids: set[str] = set()
        self._verdict = verdict
        for fact in facts:
            cause = fact.fields["cause"]
            if cause["offset"] >= 0:
                self.by_offset.setdefault((cause["partition"], cause["offset"]), fact)
            if cause["command_id"]:
                self._ids.add(cause["command_id"])
            if cause["answers"]:
                self._answer(fact, cause["command_id"])

    def _answer(self, fact: Fact, command_id: str) -> None:
        key = (fact.fields["workflow_id"], command_id)
        self._verdict.totals["outcomes"] += 1
        before = self.by_command.setdefault(key, fact)
        if before is not fact:
            detail = f"command {command_id} of {key[0]} has two outcomes, the first at {before.where} (I2)"
            self._verdict.anomalies.append(Anomaly(DUPLICATE, fact.where, detail))

    def reflects(self, raw: RawRecord, command_id: str) -> bool:
        """Whether a visible event names this very record (a dead letter names it without a command id)."""
        fact = self.by_offset.get((raw.partition, raw.offset))
        return fact is not None and fact.fields["cause"]["command_id"] in ("", command_id)

    def known(self, command_id: str) -> bool:
        """Whether any visible event was caused by the command."""
        return command_id in self._ids


def check_inputs(
    inputs: list[Input], outcomes: Outcomes, views: Mapping[int, PartitionView], verdict: Verdict, acked: set[str]
) -> None:
    """Every command below the input position has its outcome (I2, I8); acknowledged ones above it were never taken."""
    positions = {n: v.footers[-1].fact.fields["position"]["offset"] for n, v in views.items() if v.footers}
    for item in inputs:
        raw = item.raw
        where = f"{raw.topic}/{raw.partition}@{raw.offset}"
        verdict.totals["commands"] += 1
        if item.name == "QueryWorkflow":
            continue
        if item.name == "UpdateWorkflow" and item.key not in outcomes.by_command and item.key[1] not in acked:
            # What the run's code refuses, or cannot judge yet, leaves nothing; an answer that it was accepted would be
            # premature.
            continue
        taken = item.key in outcomes.by_command or outcomes.reflects(raw, item.key[1])
        position = positions.get(raw.partition, 0)
        command = f"{item.name or 'undecodable bytes'} {item.key[1]}".strip()
        if raw.offset < position and not taken:
            detail = f"{command} lies below the input position {position} and has no outcome"
            verdict.anomalies.append(Anomaly(OFFSETS, where, f"{detail} (I8)"))
            verdict.anomalies.append(Anomaly(LOST_WRITE, where, f"{detail} (I2)"))
        elif raw.offset >= position and not taken and item.key[1] in acked:
            detail = f"acknowledged {command} was never taken: the input position is {position} (I2)"
            verdict.anomalies.append(Anomaly(UNSEEN, where, detail))


def check_acknowledged(acked: set[str], outcomes: Outcomes, inputs: list[Input], verdict: Verdict) -> None:
    """A command whose sender was told "accepted" must have left an event, and still be on its topic."""
    sent = {item.key[1] for item in inputs}
    for command_id in sorted(acked):
        if outcomes.known(command_id):
            continue
        if not inputs or command_id not in sent:
            detail = "acknowledged, but no visible event was caused by it (I2)"
            verdict.anomalies.append(Anomaly(LOST_WRITE, f"command {command_id}", detail))


def check_replies(replies: Iterable[RawRecord], outcomes: Outcomes, inputs: list[Input], verdict: Verdict) -> None:
    """An answer needs a visible event, and duplicates get the original answer."""
    queries = {item.key[1] for item in inputs if item.name == "QueryWorkflow"}
    first: dict[str, tuple[Any, str]] = {}
    for raw in replies:
        decoded = decode(raw.value)
        fields = decoded.fields
        command_id = fields["command_id"]
        if decoded.name != "Reply" or command_id in queries or fields["outcome"] in ("answered", "not_ready"):
            continue
        if fields["outcome"] == "rejected" and fields["code"] in UNRECORDED:
            continue
        verdict.totals["replies"] += 1
        where = f"{raw.topic}/{raw.partition}@{raw.offset}"
        if not outcomes.known(command_id):
            detail = f"{fields['outcome']} for command {command_id}, which no visible event answers (I2)"
            verdict.anomalies.append(Anomaly(PREMATURE_REPLY, where, detail))
        answer = tuple(fields[name] for name in ("workflow_id", "run_id", "outcome", "code"))
        before = first.setdefault(command_id, (answer, where))
        if before[0] != answer:
            detail = f"command {command_id} was answered {answer}, and {before[0]} at {before[1]} (I2)"
            verdict.anomalies.append(Anomaly(DUPLICATE, where, detail))


def check_silence(facts: list[Fact], inputs: list[Input], verdict: Verdict) -> None:
    """A time-out that judges silence must not win over a report that lay on the commands topic before it was due."""
    reports: dict[tuple[str, str, int], Input] = {}
    for item in inputs:
        if item.name == "ReportStep":
            body = item.fields
            reports.setdefault((body["run_id"], body["step"], body["attempt"]), item)
    scheduled: dict[tuple[str, str], Fact] = {}
    alive: dict[tuple[str, str, int], Fact] = {}
    lease: dict[tuple[str, str, int], int] = {}
    for fact in facts:
        fields = fact.fields
        if fact.name == "StepScheduled":
            scheduled[fields["run_id"], f"{fields['path']}:{fields['n']}"] = fact
        if not fact.name.startswith("Step") or "attempt" not in fields:
            continue
        place = (fields["run_id"], fields["step"], fields["attempt"])
        if fact.name == "StepLeased":
            lease[place] = fields["lease_ms"]
        if fact.name in ("StepLeased", "StepStarted", "StepHeartbeat"):
            alive[place] = fact
        report = reports.get(place)
        failure = fields.get("failure") or {}
        if report is None or failure.get("type") not in SILENT or fields["cause"]["command_id"] or place not in alive:
            continue
        due = _due(alive[place], lease.get(place, 0), scheduled.get(place[:2]), failure["message"])
        if due and 0 < report.raw.timestamp_ms < due - SLACK_MS:
            detail = (
                f"{failure['type']} of step {place[1]} attempt {place[2]}, due at {due}, won over its report at offset"
                f" {report.raw.offset}, on the topic since {report.raw.timestamp_ms} (I6)"
            )
            verdict.anomalies.append(Anomaly(EARLY_TIMER, fact.where, detail))


def _due(alive: Fact, lease_ms: int, scheduled: Fact | None, message: str) -> int:
    """When the silence was over, by the log's clock; 0 if that cannot be told."""
    since = alive.fields["recorded_at_ms"]
    if scheduled is None:
        return 0
    options = scheduled.fields["options"]
    if message.startswith("schedule_to_close"):
        return int(scheduled.fields["recorded_at_ms"] + options["schedule_to_close_ms"])
    for kind in ("heartbeat", "start_to_close"):
        if message.startswith(kind):
            return int(since + options[f"{kind}_ms"])
    return since + lease_ms if lease_ms else 0
