"""How a step's events change its row. A step with a result has no row: its history has it."""

from __future__ import annotations

from typing import Any

from .. import ids
from ..events import (
    StepAdmitted,
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
from ..tasks import StopStep, TaskOffer
from ..values import Payload
from . import lane
from .fold import Fold

Fields = dict[str, Any]
OF_ATTEMPT = ("lease", "start_to_close", "heartbeat", "schedule_to_start")
"""Timers that end with the attempt that they belong to."""


def step_scheduled(fold: Fold, run: RunRow, body: StepScheduled) -> Fields:
    event = fold.event
    step = ids.step_id(body.path, body.n)
    options = body.options
    row = StepRow(
        name=body.name,
        state="limited" if options.limits else "scheduled",
        attempt=1,
        scheduled_seq=event.seq,
        scheduled_at_ms=event.recorded_at_ms,
        options=options,
        token=ids.step_token(event.run_id, step, 1),
        since_ms=event.recorded_at_ms,
        asks_later=lane.enter(fold, step, 1, options.limits) if options.limits else 0,
    )
    row = _with_timer(fold, step, row, "schedule_to_close", options.schedule_to_close_ms)
    row = _with_timer(fold, step, row, "schedule_to_start", options.schedule_to_start_ms)
    if options.queue and not options.limits:
        _offer(fold, step, row, body.arguments)
    _put(fold, step, row)
    return {"pending_steps": run.pending_steps + 1}


def step_admitted(fold: Fold, run: RunRow, body: StepAdmitted) -> Fields:
    row = _row(fold, body.step)
    lane.admitted(fold, row)
    row = row._replace(state="scheduled", since_ms=fold.event.recorded_at_ms)
    if row.options.queue:
        _offer(fold, body.step, row, _arguments(fold, row))
    _put(fold, body.step, row)
    return {}


def step_retried(fold: Fold, run: RunRow, body: StepRetried) -> Fields:
    row = _row(fold, body.step)
    event = fold.event
    if row.state == "parked":
        # Its time stood still with it: what a person lets go on has all of it again.
        row = row._replace(scheduled_at_ms=event.recorded_at_ms)
        row = _with_timer(fold, body.step, row, "schedule_to_close", row.options.schedule_to_close_ms)
    row = row._replace(
        state="limited" if row.options.limits else "scheduled",
        attempt=body.attempt,
        token=ids.step_token(event.run_id, body.step, body.attempt),
        worker="",
        since_ms=event.recorded_at_ms,
        timers=_without(fold, row, "retry", *OF_ATTEMPT),
        reply_to=None,
    )
    row = _with_timer(fold, body.step, row, "schedule_to_start", row.options.schedule_to_start_ms)
    if limits := row.options.limits:
        row = row._replace(asks_later=lane.enter(fold, body.step, row.attempt, limits))
    elif row.options.queue:
        _offer(fold, body.step, row, _arguments(fold, row))
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
        timers=_without(fold, row, "schedule_to_start"),
    )
    _put(fold, body.step, _with_attempt_timers(fold, body.step, row))
    return {}


def step_leased(fold: Fold, run: RunRow, body: StepLeased) -> Fields:
    row = _row(fold, body.step)
    row = row._replace(
        state="leased",
        token=body.token,
        worker=body.worker,
        since_ms=fold.event.recorded_at_ms,
        window_ms=body.lease_ms,
        timers=_without(fold, row, "schedule_to_start"),
        reply_to=fold.event.cause.reply_to,
    )
    row = _with_timer(fold, body.step, row, "lease", body.lease_ms)
    _put(fold, body.step, _with_attempt_timers(fold, body.step, row))
    return {}


def step_heartbeat(fold: Fold, run: RunRow, body: StepHeartbeat) -> Fields:
    row = _row(fold, body.step)._replace(details=body.details)
    now = fold.event.recorded_at_ms
    # Only what the row knows of: the silence of a local `retry` step is its engine's to measure.
    for kind, after_ms in (("lease", row.window_ms), ("heartbeat", row.options.heartbeat_ms)):
        if f"{kind}|{body.step}" in row.timers:
            fold.set_timer(kind, body.step, now + after_ms)
    _put(fold, body.step, row)
    return {}


def step_attempt_failed(fold: Fold, run: RunRow, body: StepAttemptFailed) -> Fields:
    row = _row(fold, body.step)
    _tell_worker(fold, body.step, row, f"it failed: {body.failure.message}")
    kept = _without(fold, row, *OF_ATTEMPT)
    lane.leave(fold, body.step, row)
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
    _tell_worker(fold, body.step, row, "it was interrupted: its effect may have happened, or still be in flight")
    _put(fold, body.step, row._replace(state="interrupted", timers=_without(fold, row, *OF_ATTEMPT)))
    return {}


def step_parked(fold: Fold, run: RunRow, body: StepParked) -> Fields:
    row = _row(fold, body.step)
    _tell_worker(fold, body.step, row, f"it is parked: {body.failure.message}")
    kept = _without(fold, row, "retry", "schedule_to_close", *OF_ATTEMPT)
    lane.leave(fold, body.step, row)
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
    _end(fold, body.step, "it was completed from outside", outside=body.actor is not None)
    return {"pending_steps": run.pending_steps - 1, "steps_done": run.steps_done + 1}


def step_failed(fold: Fold, run: RunRow, body: StepFailed) -> Fields:
    _end(fold, body.step, f"it failed: {body.failure.message}", outside=body.actor is not None)
    return {"pending_steps": run.pending_steps - 1}


def step_cancelled(fold: Fold, run: RunRow, body: StepCancelled) -> Fields:
    _end(fold, body.step, "it was cancelled")
    return {"pending_steps": run.pending_steps - 1}


def step_cancel_requested(fold: Fold, run: RunRow, body: StepCancelRequested) -> Fields:
    row = _row(fold, body.step)
    if row.options.cancellation == "wait":
        stop_worker(fold, body.step, row, "the workflow cancelled it", over=False)
        _put(fold, body.step, row._replace(cancelled=True))
        return {}
    _end(fold, body.step, "the workflow cancelled it", outside=True)
    return {"pending_steps": run.pending_steps - 1}


def _row(fold: Fold, step: str) -> StepRow:
    row: StepRow = fold.state.get(STEPS, step_key(fold.event.workflow_id, fold.event.run_id, step))
    return row


def _put(fold: Fold, step: str, row: StepRow) -> None:
    fold.state.put(STEPS, step_key(fold.event.workflow_id, fold.event.run_id, step), row)


def stop_worker(fold: Fold, step: str, row: StepRow, why: str, over: bool = True) -> None:
    """Tell the worker that holds the step's lease, if one does, to end it."""
    if row.state != "leased" or row.reply_to is None:
        return
    event = fold.event
    stop = StopStep(event.workflow_id, event.run_id, step, row.attempt, row.token, over, why)
    topic, partition = row.reply_to
    fold.send(topic.removeprefix(f"{fold.settings.app}."), row.token, stop, partition=partition)


def _tell_worker(fold: Fold, step: str, row: StepRow, why: str, outside: bool = False) -> None:
    """Of an end that its worker did not report: a command caused what it did report."""
    if outside or not fold.event.cause.command_id:
        stop_worker(fold, step, row, why)


def _end(fold: Fold, step: str, why: str, outside: bool = False) -> None:
    row = _row(fold, step)
    _tell_worker(fold, step, row, why, outside)
    for name in row.timers:
        fold.clear_timer(name)
    lane.leave(fold, step, row)
    fold.state.put(STEPS, step_key(fold.event.workflow_id, fold.event.run_id, step), None)


def _arguments(fold: Fold, row: StepRow) -> Payload:
    scheduled = fold.state.get(HISTORY, history_key(fold.event.workflow_id, fold.event.run_id, row.scheduled_seq))
    arguments: Payload = scheduled.event.body.arguments
    return arguments


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
    row = _with_timer(fold, step, row, "start_to_close", row.options.start_to_close_ms)
    return _with_timer(fold, step, row, "heartbeat", row.options.heartbeat_ms)


def _with_timer(fold: Fold, step: str, row: StepRow, kind: str, after_ms: int) -> StepRow:
    """The row with one timer more, from now; as it is if the time-out is none."""
    if not after_ms:
        return row
    return row._replace(timers=(*row.timers, fold.set_timer(kind, step, fold.event.recorded_at_ms + after_ms)))


def _offer(fold: Fold, step: str, row: StepRow, arguments: Payload) -> None:
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
        on_crash=row.options.on_crash,
    )
    fold.send(f"tasks.{row.options.queue}", event.workflow_id, offer, step=step)
