"""Decisions about runs as a whole: start, signal, cancel, terminate, retry, pause, resume."""

from __future__ import annotations

from .. import ids
from ..commands import (
    CancelWorkflow,
    Command,
    PauseWorkflow,
    ResumeWorkflow,
    RetryWorkflow,
    SignalWorkflow,
    StartWorkflow,
    TerminateWorkflow,
    UpdateWorkflow,
)
from ..events import (
    CancelRequested,
    RunCancelled,
    RunPaused,
    RunResumed,
    RunStarted,
    RunTerminated,
    SignalReceived,
    StepRetried,
)
from ..rows import STEPS, RunRow, StepRow
from ..values import Cause, CodeIdentity
from . import entity
from .decision import (
    CLOSED,
    Context,
    Draft,
    KeyFailed,
    View,
    accepted,
    asked_by,
    begun_before,
    caused,
    current_run,
    needs_of,
    no_such_run,
    rejected,
)
from .fields import bad_start
from .schedule import started_before

MOST_LETTERS = 100
"""Of a name in the message of a refusal."""


def start_workflow(view: View, command: Command, body: StartWorkflow, context: Context) -> list[Draft]:
    """Start a run, unless the conflict or reuse policy says otherwise."""
    problem = _bad_id(command.workflow_id) or bad_start(body)
    if problem:
        return rejected(command, context, "bad_request", problem)
    if body.conflict == "queue" and body.start_delay_ms:
        return rejected(command, context, "bad_request", "a call of an entity cannot be delayed")
    run_id, again = begun_before(view, command, context)
    if again:
        return again + started_before(view, command, context)
    if body.conflict == "queue":
        return entity.call(view, _started(run_id, command, body, context))
    drafts: list[Draft] = []
    existing_id, existing = current_run(view, command.workflow_id)
    if existing is not None and existing.status not in CLOSED:
        if body.signal and body.conflict != "terminate_existing":
            return [_signalled(command, body, existing_id, caused(command, context))]
        if body.conflict == "use_existing":
            return accepted(command, context, "use_existing", "the run that is open", existing_id)
        if body.conflict != "terminate_existing":
            message = (
                f"{command.workflow_id} is running (run {existing_id}); start it with another id or conflict policy"
            )
            return rejected(command, context, "already_running", message, existing_id)
        terminated = RunTerminated(command.actor, "terminate_existing: a new run was started")
        drafts.append(Draft(command.workflow_id, existing_id, terminated, caused(command, context, answers=False)))
    elif existing is not None:
        refusal = _reuse_refused(body.reuse, existing)
        if refusal:
            message = f"{command.workflow_id} was used by run {existing_id} ({existing.status}); {refusal}"
            return rejected(command, context, "already_closed", message, existing_id)
    try:
        started = _started(run_id, command, body, context)
    except KeyFailed as error:
        return rejected(command, context, "bad_request", f"{body.workflow_type}: {error}")
    drafts.append(started)
    if body.signal:
        drafts.append(_signalled(command, body, started.run_id, caused(command, context, answers=False)))
    return drafts


def _signalled(command: Command, body: StartWorkflow, run_id: str, cause: Cause) -> Draft:
    received = SignalReceived(body.signal, body.signal_payload, command.actor)
    return Draft(command.workflow_id, run_id, received, cause)


def _started(run_id: str, command: Command, body: StartWorkflow, context: Context) -> Draft:
    known = context.code_of(body.workflow_type, body.version)
    started = RunStarted(
        workflow_type=body.workflow_type,
        version=known.version if known else body.version,
        arguments=body.arguments,
        seed=ids.seed(run_id),
        code=known.identity if known else CodeIdentity(),
        actor=asked_by(command),
        reason=command.reason,
        parent=body.parent,
        memo=body.memo,
        attributes=body.attributes,
        summary=body.summary,
        start_delay_ms=body.start_delay_ms,
        execution_timeout_ms=body.execution_timeout_ms,
        run_timeout_ms=body.run_timeout_ms,
        suggest_at=context.suggest_at,
        priority=body.priority,
        limits=needs_of(known, body.arguments, body.priority) if known and body.conflict != "queue" else (),
    )
    return Draft(command.workflow_id, run_id, started, caused(command, context))


def _bad_id(workflow_id: str) -> str:
    if not workflow_id or "\x00" in workflow_id:
        return "a workflow id is a non-empty text without NUL"
    size = len(workflow_id.encode())
    if size > ids.MAX_WORKFLOW_ID:
        return f"a workflow id has at most {ids.MAX_WORKFLOW_ID:,} bytes in UTF-8, this one has {size:,}"
    return ""


def _reuse_refused(reuse: str, existing: RunRow) -> str:
    if reuse == "reject":
        return "its reuse policy is reject"
    if reuse == "allow_if_failed" and existing.status == "completed":
        return "its reuse policy is allow_if_failed"
    return ""


def open_run(view: View, command: Command, run_id: str, context: Context) -> tuple[str, list[Draft]]:
    """(id of the open run, []) or ("", its rejection). A run that continued as new is by now the one after it."""
    found, run = current_run(view, command.workflow_id, run_id)
    while run is not None and run.status == "continued_as_new" and follows(command):
        found, run = current_run(view, command.workflow_id, run.next_run_id)
    if run is None:
        message = no_such_run(command.workflow_id, run_id)
        return "", rejected(command, context, "not_found", message, run_id)
    if run.status in CLOSED:
        message = f"{command.workflow_id}/{found} is {run.status}: {_named(command)} came too late"
        return "", rejected(command, context, "run_closed", message, found)
    return found, []


def _named(command: Command) -> str:
    """A command by its kind; a signal or an update by its name too."""
    name = getattr(command.body, "name", "")
    return f"{type(command.body).__name__} {name[:MOST_LETTERS]}".rstrip()


def follows(command: Command) -> bool:
    """Whether a command that names a run means it as whatever run it goes on as.

    An update is judged by the code of the run that it names; a limit displaces the very task that holds it.
    """
    return not isinstance(command.body, UpdateWorkflow) and command.actor.kind != "engine"


def signal_workflow(view: View, command: Command, body: SignalWorkflow, context: Context) -> list[Draft]:
    """Record a signal; after close it is a recorded rejection, never dropped silently."""
    run_id, refusal = open_run(view, command, body.run_id, context)
    received = SignalReceived(body.name, body.payload, command.actor)
    return refusal or [Draft(command.workflow_id, run_id, received, caused(command, context))]


def cancel_workflow(view: View, command: Command, body: CancelWorkflow, context: Context) -> list[Draft]:
    """Ask once; a second request is fulfilled already."""
    run_id, refusal = open_run(view, command, body.run_id, context)
    if refusal:
        return refusal
    _, run = current_run(view, command.workflow_id, run_id)
    assert run is not None
    if run.cancel_requested:
        return accepted(command, context, "already_requested", "cancellation was requested before", run_id)
    requested = CancelRequested(asked_by(command), command.reason)
    drafts = [Draft(command.workflow_id, run_id, requested, caused(command, context))]
    if run.status in ("limited", "delayed"):
        # Its code has not begun, and need not begin in order to end.
        drafts.append(Draft(command.workflow_id, run_id, RunCancelled(0)))
    return drafts


def terminate_workflow(view: View, command: Command, body: TerminateWorkflow, context: Context) -> list[Draft]:
    """End a run at once."""
    run_id, refusal = open_run(view, command, body.run_id, context)
    terminated = RunTerminated(asked_by(command), command.reason)
    return refusal or [Draft(command.workflow_id, run_id, terminated, caused(command, context))]


def retry_workflow(view: View, command: Command, body: RetryWorkflow, context: Context) -> list[Draft]:
    """Resume a parked run: its code is replayed and goes on where it stood."""
    run_id, refusal = open_run(view, command, body.run_id, context)
    if refusal:
        return refusal
    _, run = current_run(view, command.workflow_id, run_id)
    assert run is not None
    if run.status != "parked":
        return rejected(command, context, "not_parked", f"{command.workflow_id}/{run_id} is {run.status}", run_id)
    resumed = RunResumed(command.actor, command.reason)
    drafts = [Draft(command.workflow_id, run_id, resumed, caused(command, context))]
    for key, row in view.scan(STEPS, (command.workflow_id, run_id)):
        if isinstance(row, StepRow) and row.state == "parked" and row.options.on_crash == "retry":
            again = StepRetried(str(key[2]), row.attempt + 1)
            drafts.append(Draft(command.workflow_id, run_id, again, caused(command, context, answers=False)))
    return drafts


def pause_workflow(view: View, command: Command, body: PauseWorkflow, context: Context) -> list[Draft]:
    """Stop a run's turns; a second request is fulfilled already."""
    run_id, refusal = open_run(view, command, body.run_id, context)
    if refusal:
        return refusal
    _, run = current_run(view, command.workflow_id, run_id)
    assert run is not None
    if run.status == "paused":
        return accepted(command, context, "already_paused", f"paused {run.parked_message}", run_id)
    if run.status != "running":
        return rejected(command, context, "not_running", f"{command.workflow_id}/{run_id} is {run.status}", run_id)
    paused = RunPaused(command.actor, command.reason)
    return [Draft(command.workflow_id, run_id, paused, caused(command, context))]


def resume_workflow(view: View, command: Command, body: ResumeWorkflow, context: Context) -> list[Draft]:
    """Let a paused run take the turns that have come meanwhile."""
    run_id, refusal = open_run(view, command, body.run_id, context)
    if refusal:
        return refusal
    _, run = current_run(view, command.workflow_id, run_id)
    assert run is not None
    if run.status != "paused":
        return rejected(command, context, "not_paused", f"{command.workflow_id}/{run_id} is {run.status}", run_id)
    resumed = RunResumed(command.actor, command.reason)
    return [Draft(command.workflow_id, run_id, resumed, caused(command, context))]
