"""Decisions about steps: grants, heartbeats, results, and what a failed attempt leads to."""

from __future__ import annotations

from ..commands import Command, HeartbeatStep, ReportStep, ResolveStep, StartStep
from ..events import (
    RunParked,
    StepAttemptFailed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepHeartbeat,
    StepInterrupted,
    StepLeased,
    StepParked,
    StepRetried,
)
from ..retry import NOT_STARTED, next_delay_ms
from ..rows import STEPS, StepRow, step_key
from ..values import Cause, Failure
from .decision import Context, Draft, View, caused, current_run, no_such_run, rejected
from .fields import bad_duration

CRASHES_IN_A_ROW = 3
UNDER_WAY = ("scheduled", "started", "leased", "handed_over")
"""States in which an attempt may be running."""


def nobody_runs(row: StepRow) -> bool:
    """Whether a pending step certainly has no attempt under way: it waits for time, a person, a worker or a slot."""
    if row.state == "scheduled":
        return row.options.queue != "" or row.options.on_crash != "retry"
    return row.state in ("limited", "backoff", "parked")


def _pending(view: View, command: Command, run_id: str, step: str) -> StepRow | None:
    row = view.get(STEPS, step_key(command.workflow_id, run_id, step))
    return row if isinstance(row, StepRow) else None


def _stale(command: Command, run_id: str, step: str, row: StepRow | None, context: Context) -> list[Draft]:
    why = "it has its result, or the run is closed" if row is None else f"attempt {row.attempt} is the current one"
    message = f"step {step} of {command.workflow_id}/{run_id}: {why}; this report changes nothing"
    return rejected(command, context, "stale_attempt", message, run_id)


def start_step(view: View, command: Command, body: StartStep, context: Context) -> list[Draft]:
    """Grant an offer to the first worker that asks."""
    row = _pending(view, command, body.run_id, body.step)
    if row is None or row.attempt != body.attempt or row.token != body.token:
        return _stale(command, body.run_id, body.step, row, context)
    if row.state != "scheduled":
        message = f"step {body.step} attempt {body.attempt} is {row.state}" + (
            f" by {row.worker}" if row.worker else ""
        )
        return rejected(command, context, "already_granted", message, body.run_id)
    if problem := bad_duration("lease_ms", body.lease_ms):
        return rejected(command, context, "bad_request", problem, body.run_id)
    leased = StepLeased(body.step, body.attempt, body.token, body.worker, body.lease_ms)
    return [Draft(command.workflow_id, body.run_id, leased, caused(command, context))]


def heartbeat_step(view: View, command: Command, body: HeartbeatStep, context: Context) -> list[Draft]:
    """Renew the lease; the details go to the next attempt."""
    row = _pending(view, command, body.run_id, body.step)
    if row is None or row.attempt != body.attempt or row.token != body.token or row.state not in UNDER_WAY:
        return _stale(command, body.run_id, body.step, row, context)
    beat = StepHeartbeat(body.step, body.attempt, body.details)
    return [Draft(command.workflow_id, body.run_id, beat, caused(command, context))]


def report_step(view: View, command: Command, body: ReportStep, context: Context) -> list[Draft]:
    """One attempt's outcome. A result of a stale attempt is a recorded rejection."""
    row = _pending(view, command, body.run_id, body.step)
    current = row is not None and row.attempt == body.attempt and row.token == body.token
    if row is None or not (context.any_attempt or (current and row.state in UNDER_WAY)):
        return _stale(command, body.run_id, body.step, row, context)
    cause = caused(command, context)
    if body.failure is None:
        done = StepCompleted(body.step, body.attempt, body.result)
        return [Draft(command.workflow_id, body.run_id, done, cause)]
    if row.cancelled and body.failure.type in ("CancelledError", NOT_STARTED):
        return [Draft(command.workflow_id, body.run_id, StepCancelled(body.step, body.attempt), cause)]
    ended = Ended(command.workflow_id, body.run_id, body.step, row, cause)
    if body.crashed and row.options.on_crash != "retry":
        return interrupted(ended, body.failure)
    return attempt_failed(ended, body.failure, context.now_ms)


class Ended:
    """An attempt that ended without a result: where, and what to blame it on."""

    __slots__ = ("cause", "row", "run_id", "step", "workflow_id")

    def __init__(self, workflow_id: str, run_id: str, step: str, row: StepRow, cause: Cause) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.step = step
        self.row = row
        self.cause = cause

    def draft(self, body: StepFailed | StepAttemptFailed | StepParked | StepInterrupted | RunParked) -> Draft:
        """An event of this step; only the first one answers the command."""
        cause, self.cause = self.cause, self.cause._replace(answers=False, reply_to=None)
        return Draft(self.workflow_id, self.run_id, body, cause)


def attempt_failed(ended: Ended, failure: Failure, now_ms: int, timeout: str = "") -> list[Draft]:
    """Try again later if the policy has another attempt, else the step fails."""
    row = ended.row
    if failure.type == "StepCrashed" and row.crashes + 1 >= CRASHES_IN_A_ROW:
        message = f"step {row.name} killed its process {CRASHES_IN_A_ROW} times in a row: {failure.message}"
        return [
            ended.draft(StepParked(ended.step, row.attempt, failure)),
            ended.draft(RunParked("crashed", message, "")),
        ]
    # A time in the queue that was too long would not be shorter the next time; a cancelled step is not begun again.
    last = timeout in ("schedule_to_close", "schedule_to_start") or row.cancelled
    delay = None if last else next_delay_ms(row.options.retry, row.attempt, failure)
    limit = row.options.schedule_to_close_ms
    if delay is None or (limit and now_ms + delay > row.scheduled_at_ms + limit):
        return [ended.draft(StepFailed(ended.step, row.attempt, failure, timeout))]
    return [ended.draft(StepAttemptFailed(ended.step, row.attempt, failure, now_ms + delay))]


def interrupted(ended: Ended, failure: Failure) -> list[Draft]:
    """The attempt of an unsafe step ended ambiguously: it is never run again unasked."""
    attempt = ended.row.attempt
    drafts = [ended.draft(StepInterrupted(ended.step, attempt))]
    if ended.row.options.on_crash == "park":
        drafts.append(ended.draft(StepParked(ended.step, attempt, failure)))
    else:
        drafts.append(ended.draft(StepFailed(ended.step, attempt, failure)))
    return drafts


def resolve_step(view: View, command: Command, body: ResolveStep, context: Context) -> list[Draft]:
    """A person (or another process) speaks for a step: completes, fails or retries it, or says that it is alive."""
    run_id, run = current_run(view, command.workflow_id, body.run_id)
    row = _pending(view, command, run_id, body.step) if run is not None else None
    if row is None:
        message = f"step {body.step} of {command.workflow_id}/{run_id} is not waiting for a result"
        if run is None:
            message = no_such_run(command.workflow_id, body.run_id)
        return rejected(command, context, "not_found", message, run_id)
    cause, actor = caused(command, context), command.actor
    if body.action == "complete":
        return [Draft(command.workflow_id, run_id, StepCompleted(body.step, row.attempt, body.result, actor), cause)]
    if body.action == "fail":
        failure = body.failure or Failure("StepFailed", command.reason or "failed by hand", retryable=False)
        failed = StepFailed(body.step, row.attempt, failure, actor=actor)
        return [Draft(command.workflow_id, run_id, failed, cause)]
    if body.action == "retry" and row.state in ("parked", "backoff", "interrupted"):
        return [Draft(command.workflow_id, run_id, StepRetried(body.step, row.attempt + 1), cause)]
    if body.action == "heartbeat" and row.state in UNDER_WAY:
        return [Draft(command.workflow_id, run_id, StepHeartbeat(body.step, row.attempt, body.result), cause)]
    message = f"cannot {body.action} step {body.step}: it is {row.state}; parked steps take complete, fail or retry"
    return rejected(command, context, "bad_request", message, run_id)
