"""Laws of effects outside: none too soon, none more often than the log has beginnings for it, none missing (I12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from .batches import PartitionView
from .histories import Histories, Run, Step
from .verdict import LOST_EFFECT, PREMATURE_EFFECT, REPEATED_EFFECT, Anomaly, Verdict


@dataclass(frozen=True)
class Receipt:
    """What an outside receiver wrote down before it answered, by the step's idempotency key. `at_ms` 0: unknown."""

    idempotency_key: str
    at_ms: int = 0


def check_receipts(
    receipts: Iterable[Receipt],
    effects: Collection[str],
    histories: Histories,
    views: Mapping[int, PartitionView],
    verdict: Verdict,
) -> None:
    """What receivers wrote down against what the log lets happen."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for receipt in receipts:
        verdict.totals["receipts"] += 1
        run, name = _place(receipt, histories)
        step = run.steps.get(name) if run else None
        problem = _premature(step, receipt.at_ms)
        if problem:
            verdict.anomalies.append(Anomaly(PREMATURE_EFFECT, f"receipt {receipt.idempotency_key}", problem))
        if run is not None and step is not None:
            counts[(*run.key, name)] += 1
    for (workflow, run_id, name), count in counts.items():
        step = histories.runs[workflow, run_id].steps[name]
        most = _beginnings(step, views)
        if count > most:
            detail = f"{count} receipts, the log has {most} beginnings of it (I12)"
            verdict.anomalies.append(Anomaly(REPEATED_EFFECT, f"step {name} of {workflow}/{run_id}", detail))
    _check_missing(counts, effects, histories, verdict)


def _place(receipt: Receipt, histories: Histories) -> tuple[Run | None, str]:
    parts = [unquote(part) for part in receipt.idempotency_key.split("/")]
    if len(parts) != 3:
        return None, ""
    return histories.runs.get((parts[0], parts[1])), parts[2]


def _premature(step: Step | None, at_ms: int) -> str:
    if step is None:
        return "no visible event schedules this step (I12)"
    record = step.scheduled
    if _guarded(step):
        if not step.begun:
            return "its step may begin only after StepStarted or StepLeased, and there is none (I12)"
        record = min(step.begun.values(), key=lambda fact: fact.raw.offset)
    # The broker stamps a record when it is appended, which is before its commit.
    if 0 < at_ms < record.raw.timestamp_ms:
        appended = f"{record.name} was appended at {record.raw.timestamp_ms} ({record.where})"
        return f"it happened at {at_ms}, {appended} (I12)"
    return ""


def _guarded(step: Step) -> bool:
    return bool(step.scheduled.fields["options"]["on_crash"] != "retry")


def _beginnings(step: Step, views: Mapping[int, PartitionView]) -> int:
    """How often a step may have begun: once for each record of it; by default every take-over may begin it again.

    One before its schedule counts too: the batch that scheduled it first may have been lost. So does the first one
    after its result: that owner did not know of it while it restored.
    """
    if _guarded(step):
        return max(step.begins, 1)
    claims = views[step.scheduled.raw.partition].claims
    if step.result is not None:
        result = step.result.raw.offset
        later = sum(claim.raw.offset > result for claim in claims)
        return step.attempt + len(claims) - 1 - max(0, later - 1)
    return step.attempt + len(claims) - 1


def _check_missing(
    counts: Mapping[tuple[str, str, str], int], effects: Collection[str], histories: Histories, verdict: Verdict
) -> None:
    """A step that is done by itself has had its effect. A fork's copied events are of another run's doing."""
    for (workflow, run_id), run in histories.runs.items() if effects else ():
        for name, step in run.steps.items():
            done = step.result
            if done is None or done.name != "StepCompleted" or step.scheduled.fields["name"] not in effects:
                continue
            if histories.by_person(done) or done.fields["original_ms"] or (workflow, run_id, name) in counts:
                continue
            detail = f"its result is at {done.where}, and no receiver knows of it (I12)"
            verdict.anomalies.append(Anomaly(LOST_EFFECT, f"step {name} of {workflow}/{run_id}", detail))
