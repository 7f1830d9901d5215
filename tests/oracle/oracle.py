"""The judgement: everything that can be known from the raw topics, put together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .avro import Undecodable, decode
from .batches import BatchReader, PartitionView
from .commands import Outcomes, check_acknowledged, check_inputs, check_replies, check_silence, read_inputs
from .effects import Receipt, check_receipts
from .histories import Histories, Run
from .raw import ByPartition, End, RawRecord
from .state import Dumps, StatePosition, check_ends, check_state
from .timing import ATTEMPTS, Bounds, check_time
from .verdict import DUPLICATE, LOST_WRITE, NONMONOTONIC, UNSEEN, WRONG_RESULT, Anomaly, Verdict

__all__ = [
    "ANY", "Bounds", "Dumps", "End", "Evidence", "Expected", "LoadModel", "Receipt", "SentSignal", "StatePosition",
    "check", "replies_of",
]  # fmt: skip

ANY = object()
"""An expected result that the model does not fix."""


@dataclass(frozen=True)
class SentSignal:
    """A signal that its sender was told is accepted."""

    command_id: str
    sender: str = ""


@dataclass(frozen=True)
class Expected:
    """What the load's model says of a workflow id; `steps` None is not checked, signals in the order of sending."""

    result: Any = ANY
    steps: int | None = None
    status: str = "completed"
    signals: Sequence[SentSignal] = ()


@dataclass(frozen=True)
class LoadModel:
    """The seeded model of the load: expectations by workflow id, and the ids of acknowledged commands."""

    expected: Mapping[str, Expected] = field(default_factory=dict)
    acknowledged: Collection[str] = ()


@dataclass(frozen=True)
class Evidence:
    """What else there is to judge by. `quiescent`: the load has ended, engines are idle or gone.

    `log_start` names partitions whose first offsets were deleted, `effects` steps that are never done without a
    receipt. `bounds` only where nothing else kept the machine from its work. `attempts` of a turn are recorded
    in careful mode before its run is parked."""

    commands: ByPartition | None = None
    replies: Iterable[RawRecord] = ()
    receipts: Iterable[Receipt] = ()
    state: Mapping[int, StatePosition] = field(default_factory=dict)
    quiescent: bool = True
    log_start: Mapping[int, int] = field(default_factory=dict)
    ends: Mapping[int, End] = field(default_factory=dict)
    dumps: Mapping[int, Dumps] = field(default_factory=dict)
    effects: Collection[str] = ()
    bounds: Bounds | None = None
    attempts: int = ATTEMPTS


def check(
    events: ByPartition,
    uncommitted: ByPartition | None = None,
    load_model: LoadModel | None = None,
    evidence: Evidence | None = None,
) -> Verdict:
    """Judge an application: `events` as read_committed shows them, `uncommitted` as read_uncommitted does."""
    model, evidence = load_model or LoadModel(), evidence or Evidence()
    verdict = Verdict([], Counter())
    inputs = read_inputs(evidence.commands or {})
    by_hand = frozenset(item.key[1] for item in inputs if item.name == "ResolveStep")
    histories = Histories(verdict, by_hand if evidence.commands is not None else None)
    views: dict[int, PartitionView] = {}
    for number in sorted(events):
        views[number] = BatchReader(verdict, evidence.quiescent, evidence.log_start.get(number, 0)).read(events[number])
        histories.read(views[number].facts)
    facts = [fact for number in sorted(views) for fact in views[number].facts]
    outcomes = Outcomes(facts, verdict)
    acked = set(model.acknowledged)
    acked.update(s.command_id for e in model.expected.values() for s in e.signals)
    if evidence.commands is not None:
        check_inputs(inputs, outcomes, views, verdict, acked)
        check_silence(facts, inputs, verdict)
    check_acknowledged(acked, outcomes, inputs, verdict)
    check_replies(evidence.replies, outcomes, inputs, verdict)
    _check_readers(events, uncommitted, verdict)
    check_receipts(evidence.receipts, evidence.effects, histories, views, verdict)
    check_state(evidence.state, evidence.dumps, views, verdict)
    if evidence.quiescent:
        check_ends(evidence.ends, verdict)
    check_time(views, inputs, evidence.bounds, evidence.attempts, verdict)
    _check_model(model, histories, verdict)
    verdict.totals["runs"] = len(histories.runs)
    return verdict


def _check_readers(events: ByPartition, uncommitted: ByPartition | None, verdict: Verdict) -> None:
    """All readers agree: what read_committed shows is what lies on the log (I4); the rest was aborted."""
    for number, records in (uncommitted or {}).items():
        visible = {raw.offset: raw for raw in events.get(number, ())}
        on_log = {raw.offset: raw for raw in records}
        verdict.totals["aborted_records"] += len(on_log.keys() - visible.keys())
        for offset, raw in visible.items():
            other = on_log.get(offset)
            if other is None or (other.key, other.value) != (raw.key, raw.value):
                what = "missing" if other is None else "different"
                where = f"{raw.topic}/{raw.partition}@{offset}"
                verdict.anomalies.append(Anomaly(UNSEEN, where, f"{what} at read_uncommitted (I4)"))


def _check_model(model: LoadModel, histories: Histories, verdict: Verdict) -> None:
    """The model's totals against the log's (I10), acknowledged signals exactly once and in order (I5)."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for (workflow, _), run in histories.runs.items():
        runs[workflow].append(run)
    for workflow, expected in model.expected.items():
        found = runs.get(workflow, [])
        if not found:
            verdict.anomalies.append(Anomaly(UNSEEN, workflow, "the model started it, the log has no run of it (I10)"))
            continue
        _check_run(workflow, expected, found, verdict)
        _check_signals(workflow, expected.signals, found, verdict)
    if model.expected:
        for workflow in sorted(runs.keys() - model.expected.keys()):
            verdict.anomalies.append(Anomaly(DUPLICATE, workflow, "the model never started this workflow (I10)"))


def _check_run(workflow: str, expected: Expected, found: list[Run], verdict: Verdict) -> None:
    endings = [run for run in found if run.status not in ("running", "continued_as_new")]
    if len(endings) > 1:
        verdict.anomalies.append(Anomaly(DUPLICATE, workflow, f"{len(endings)} runs ended, the model has one (I10)"))
    status = endings[-1].status if endings else "running"
    if status != expected.status:
        name = LOST_WRITE if status == "running" else WRONG_RESULT
        verdict.anomalies.append(Anomaly(name, workflow, f"it is {status}, the model says {expected.status} (I10)"))
        return
    if endings and expected.result is not ANY and endings[-1].result != expected.result:
        detail = f"result {str(endings[-1].result)[:80]}, the model says {str(expected.result)[:80]} (I10)"
        verdict.anomalies.append(Anomaly(WRONG_RESULT, workflow, detail))
    steps = sum(step.result is not None for run in found for step in run.steps.values())
    if expected.steps is not None and steps != expected.steps:
        name = LOST_WRITE if steps < expected.steps else DUPLICATE
        verdict.anomalies.append(
            Anomaly(name, workflow, f"{steps} step results, the model says {expected.steps} (I10)")
        )


def _check_signals(workflow: str, sent: Sequence[SentSignal], found: list[Run], verdict: Verdict) -> None:
    received = [fact.fields["cause"]["command_id"] for run in found for fact in run.signals]
    counts = Counter(received)
    place = {command_id: index for index, command_id in enumerate(received)}
    last: dict[str, tuple[int, str]] = {}
    for signal in sent:
        where = f"{workflow} signal {signal.command_id}"
        if counts[signal.command_id] != 1:
            name = DUPLICATE if counts[signal.command_id] else LOST_WRITE
            detail = f"acknowledged once, delivered {counts[signal.command_id]} times (I5)"
            verdict.anomalies.append(Anomaly(name, where, detail))
            continue
        at = place[signal.command_id]
        before = last.get(signal.sender)
        if before is not None and before[0] > at:
            detail = f"delivered before {before[1]}, which {signal.sender or 'its sender'} sent earlier (I5)"
            verdict.anomalies.append(Anomaly(NONMONOTONIC, where, detail))
        last[signal.sender] = (at, signal.command_id)


def replies_of(records: Iterable[RawRecord]) -> list[RawRecord]:
    """The records of a replies topic that are replies."""
    found = []
    for raw in records:
        try:
            if decode(raw.value).name == "Reply":
                found.append(raw)
        except Undecodable:
            continue
    return found
