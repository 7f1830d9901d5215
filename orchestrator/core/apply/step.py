"""How a step's events change its row. A step with a result has no row: its history has it."""

from __future__ import annotations

from typing import Any

from .. import ids
from ..events import (
    StepAttemptFailed,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepFailed,
    StepHandedOver,
    StepHeartbeat,
    StepInterrupted,
    StepLeased,
    StepParked,
    StepRetried,
    StepScheduled,
    StepStarted,
)
from ..rows import HISTORY, STEPS, RunRow, StepRow, history_key, step_key
from ..tasks import TaskOffer
from ..values import Payload
from .fold import Fold

Fields = dict[str, Any]


def step_scheduled(fold: Fold, run: RunRow, body: StepScheduled) -> Fields:
    event = fold.event
    step = ids.step_id(body.path, body.n)
    options = body.options
    timers: tuple[str, ...] = ()
    if options.schedule_to_close_ms:
        timers = (fold.set_timer("schedule_to_close", step, event.recorded_at_ms + options.schedule_to_close_ms),)
    row = StepRow(
        name=body.name,
        state="scheduled",
        attempt=1,
        scheduled_seq=event.seq,
        scheduled_at_ms=event.recorded_at_ms,
        options=options,
        token=ids.step_token(event.run_id, step, 1),
        since_ms=event.recorded_at_ms,
        timers=timers,
    )
    if options.queue:
        row = _offer(fold, step, row, body.arguments)
    fold.state.put(STEPS, step_key(event.workflow_id, event.run_id, step), row)
    return {"pending_steps": run.pending_steps + 1}


def step_retried(fold: Fold, run: RunRow, body: StepRetried) -> Fields:
    row = _row(fold, body.step)
    event = fold.event
    row = row._replace(
        state="scheduled",
        attempt=body.attempt,
        token=ids.step_token(event.run_id, body.step, body.attempt),
        worker="",
        since_ms=event.recorded_at_ms,
        timers=_without(fold, row, "retry", "lease", "start_to_close", "heartbeat", "handed_over"),
    )
    if row.options.queue:
        scheduled = fold.state.get(HISTORY, history_key(event.workflow_id, event.run_id, row.scheduled_seq))
        row = _offer(fold, body.step, row, scheduled.event.body.arguments)
    _put(fold, body.step, row)
    return {}


def step_started(fold: Fold, run: RunRow, body: StepStarted) -> Fields:
    row = _row(fold, body.step)
    row = row._replace(
        state="started",
        token=body.token,
        worker=body.instance,
        since_ms=fold.event.recorded_at_ms,
        window_ms=body.start_within_ms,
    )
    _put(fold, body.step, _with_attempt_timers(fold, body.step, row))
    return {}


def step_leased(fold: Fold, run: RunRow, body: StepLeased) -> Fields:
    row = _row(fold, body.step)
    now = fold.event.recorded_at_ms
    row = row._replace(
        state="leased",
        token=body.token,
        worker=body.worker,
        since_ms=now,
        window_ms=body.lease_ms,
        timers=_without(fold, row, "schedule_to_start"),
    )
    row = row._replace(timers=(*row.timers, fold.set_timer("lease", body.step, now + body.lease_ms)))
    _put(fold, body.step, _with_attempt_timers(fold, body.step, row))
    return {}


def step_heartbeat(fold: Fold, run: RunRow, body: StepHeartbeat) -> Fields:
    row = _row(fold, body.step)._replace(details=body.details)
    now = fold.event.recorded_at_ms
    if row.state == "leased":
        fold.set_timer("lease", body.step, now + row.window_ms)
    if row.options.heartbeat_ms:
        fold.set_timer("heartbeat", body.step, now + row.options.heartbeat_ms)
    _put(fold, body.step, row)
    return {}


def step_attempt_failed(fold: Fold, run: RunRow, body: StepAttemptFailed) -> Fields:
    row = _row(fold, body.step)
    kept = _without(fold, row, "lease", "start_to_close", "heartbeat", "schedule_to_start", "handed_over")
    row = row._replace(
        state="backoff",
        worker="",
        since_ms=fold.event.recorded_at_ms,
        window_ms=body.retry_at_ms - fold.event.recorded_at_ms,
        crashes=row.crashes + 1 if body.failure.type == "StepCrashed" else 0,
        timers=(*kept, fold.set_timer("retry", body.step, body.retry_at_ms)),
    )
    _put(fold, body.step, row)
    return {}


def step_interrupted(fold: Fold, run: RunRow, body: StepInterrupted) -> Fields:
    row = _row(fold, body.step)
    kept = _without(fold, row, "lease", "start_to_close", "heartbeat", "handed_over")
    _put(fold, body.step, row._replace(state="interrupted", timers=kept))
    return {}


def step_parked(fold: Fold, run: RunRow, body: StepParked) -> Fields:
    row = _row(fold, body.step)
    kept = _without(fold, row, "lease", "start_to_close", "heartbeat", "handed_over", "retry")
    _put(fold, body.step, row._replace(state="parked", since_ms=fold.event.recorded_at_ms, timers=kept))
    return {}


def step_handed_over(fold: Fold, run: RunRow, body: StepHandedOver) -> Fields:
    row = _row(fold, body.step)
    _put(
        fold,
        body.step,
        row._replace(
            state="handed_over", worker=body.instance, since_ms=fold.event.recorded_at_ms, window_ms=body.grace_ms
        ),
    )
    return {}


def step_completed(fold: Fold, run: RunRow, body: StepCompleted) -> Fields:
    _end(fold, body.step)
    return {"pending_steps": run.pending_steps - 1, "steps_done": run.steps_done + 1}


def step_failed(fold: Fold, run: RunRow, body: StepFailed) -> Fields:
    _end(fold, body.step)
    return {"pending_steps": run.pending_steps - 1}


def step_cancelled(fold: Fold, run: RunRow, body: StepCancelled) -> Fields:
    _end(fold, body.step)
    return {"pending_steps": run.pending_steps - 1}


def step_cancel_requested(fold: Fold, run: RunRow, body: StepCancelRequested) -> Fields:
    row = _row(fold, body.step)
    if row.options.cancellation == "wait":
        _put(fold, body.step, row._replace(cancelled=True))
        return {}
    _end(fold, body.step)
    return {"pending_steps": run.pending_steps - 1}


def _row(fold: Fold, step: str) -> StepRow:
    row: StepRow = fold.state.get(STEPS, step_key(fold.event.workflow_id, fold.event.run_id, step))
    return row


def _put(fold: Fold, step: str, row: StepRow) -> None:
    fold.state.put(STEPS, step_key(fold.event.workflow_id, fold.event.run_id, step), row)


def _end(fold: Fold, step: str) -> None:
    for name in _row(fold, step).timers:
        fold.clear_timer(name)
    fold.state.put(STEPS, step_key(fold.event.workflow_id, fold.event.run_id, step), None)


def _without(fold: Fold, row: StepRow, *kinds: str) -> tuple[str, ...]:
    """Clear the row's timers of these kinds; the names of the others."""
    kept = []
    for name in row.timers:
        if name.split("|", 1)[0] in kinds:
            fold.clear_timer(name)
        else:
            kept.append(name)
    return tuple(kept)


def _with_attempt_timers(fold: Fold, step: str, row: StepRow) -> StepRow:
    """Time-outs that count from the moment an attempt begins."""
    now = fold.event.recorded_at_ms
    timers = row.timers
    if row.options.start_to_close_ms:
        timers += (fold.set_timer("start_to_close", step, now + row.options.start_to_close_ms),)
    if row.options.heartbeat_ms:
        timers += (fold.set_timer("heartbeat", step, now + row.options.heartbeat_ms),)
    return row._replace(timers=timers)


def _offer(fold: Fold, step: str, row: StepRow, arguments: Payload) -> StepRow:
    event = fold.event
    offer = TaskOffer(
        workflow_id=event.workflow_id,
        run_id=event.run_id,
        step=step,
        attempt=row.attempt,
        token=row.token,
        name=row.name,
        arguments=arguments,
        idempotency_key=ids.idempotency_key(event.workflow_id, event.run_id, step),
        start_to_close_ms=row.options.start_to_close_ms,
        heartbeat_ms=row.options.heartbeat_ms,
        details=row.details,
        trace=event.trace,
    )
    fold.send(f"tasks.{row.options.queue}", event.workflow_id, offer, step=step)
    timers = row.timers
    if row.options.schedule_to_start_ms:
        due = event.recorded_at_ms + row.options.schedule_to_start_ms
        timers += (fold.set_timer("schedule_to_start", step, due),)
    return row._replace(timers=timers)
