"""What a due timer causes."""

from __future__ import annotations

from ..commands import FireTimer
from ..events import RunFailed, RunPurged, RunResumed, StepRetried, TimerFired
from ..rows import STEPS, TIMERS, StepRow, step_key, timer_due_key
from ..values import NO_CAUSE, Actor, Failure
from .decision import CLOSED, Context, Draft, View, current_run
from .step import Ended, attempt_failed, interrupted


def _is_set(view: View, workflow_id: str, run_id: str, timer: FireTimer) -> bool:
    due = view.get(TIMERS, timer_due_key(workflow_id, run_id, f"{timer.kind}|{timer.ref}"))
    return due is not None and due.due_at_ms == timer.due_at_ms


def sleep(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """A timer of workflow code."""
    if not _is_set(view, workflow_id, run_id, timer):
        return []
    return [Draft(workflow_id, run_id, TimerFired(timer.ref, timer.due_at_ms))]


def start(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """The start delay is over."""
    _, run = current_run(view, workflow_id, run_id)
    if run is None or run.status != "delayed":
        return []
    return [Draft(workflow_id, run_id, RunResumed(Actor(kind="engine"), "the start delay is over"))]


def run_timeout(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """A run or execution time-out."""
    _, run = current_run(view, workflow_id, run_id)
    if run is None or run.status in CLOSED:
        return []
    failure = Failure("TimeoutError", f"the {timer.kind} time-out is over", retryable=False)
    return [Draft(workflow_id, run_id, RunFailed(0, failure))]


def purge(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """A closed run's retention is over."""
    _, run = current_run(view, workflow_id, run_id)
    if run is None or run.status not in CLOSED:
        return []
    return [Draft(workflow_id, run_id, RunPurged())]


def _step(view: View, workflow_id: str, timer: FireTimer) -> StepRow | None:
    """The step, unless the timer was cleared: by another one of the same step that was due at once, say."""
    row = view.get(STEPS, step_key(workflow_id, timer.run_id, timer.ref))
    return row if isinstance(row, StepRow) and _is_set(view, workflow_id, timer.run_id, timer) else None


def retry(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """A back-off is over: the next attempt begins."""
    row = _step(view, workflow_id, timer)
    if row is None or row.state != "backoff":
        return []
    limit = row.options.schedule_to_close_ms
    if limit and context.now_ms >= row.scheduled_at_ms + limit:
        # Both timers are due after a down-time: an attempt that could only be cut off does not begin.
        return _timed_out(workflow_id, run_id, timer.ref, row, "schedule_to_close", context)
    return [Draft(workflow_id, run_id, StepRetried(timer.ref, row.attempt + 1))]


def lease(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """A worker was silent for its whole lease: the ambiguous case."""
    row = _step(view, workflow_id, timer)
    if row is None or row.state != "leased":
        return []
    failure = Failure("StepLeaseExpired", f"worker {row.worker} was silent for {row.window_ms} ms")
    ended = Ended(workflow_id, run_id, timer.ref, row, NO_CAUSE)
    if row.options.on_crash != "retry":
        return interrupted(ended, failure)
    return attempt_failed(ended, failure, context.now_ms)


def step_timeout(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """One of a step's four time-outs."""
    row = _step(view, workflow_id, timer)
    if (
        row is None
        or row.state == "parked"
        or (timer.kind == "schedule_to_start" and row.state not in ("limited", "scheduled"))
    ):
        return []
    return _timed_out(workflow_id, run_id, timer.ref, row, timer.kind, context)


def _timed_out(workflow_id: str, run_id: str, step: str, row: StepRow, kind: str, context: Context) -> list[Draft]:
    failure = Failure("StepTimeout", f"{kind} of step {row.name} is over")
    return attempt_failed(Ended(workflow_id, run_id, step, row, NO_CAUSE), failure, context.now_ms, kind)
