"""Commands: requests, imperative.

From topics, from the engine's own steps and timers, and from workflow code during a turn.
"""

from __future__ import annotations

from typing import NamedTuple

from .approvals import (
    AskApproval as AskApproval,
    DecideApproval as DecideApproval,
    WithdrawApproval as WithdrawApproval,
)
from .end_commands import (
    CancelRun as CancelRun,
    CompleteRun as CompleteRun,
    ContinueAsNew as ContinueAsNew,
    FailRun as FailRun,
    ParkRun as ParkRun,
)
from .flow_commands import AcquireSlots as AcquireSlots, AdmitTask as AdmitTask, ReleaseSlots as ReleaseSlots
from .fork_commands import ForkWorkflow as ForkWorkflow
from .schedule_commands import (
    BackfillSchedule as BackfillSchedule,
    CreateSchedule as CreateSchedule,
    DeleteSchedule as DeleteSchedule,
    PauseSchedule as PauseSchedule,
    TriggerSchedule as TriggerSchedule,
)
from .update_commands import CompleteUpdate as CompleteUpdate, UpdateWorkflow as UpdateWorkflow
from .values import (
    DEFAULT_STEP_OPTIONS,
    NOTHING,
    Actor,
    AttributeValue,
    Failure,
    ParentRef,
    Payload,
    ReplyTo,
    StepOptions,
)
from .wait_commands import (
    AwaitEvent as AwaitEvent,
    CancelWait as CancelWait,
    DeliverEvent as DeliverEvent,
    PublishEvent as PublishEvent,
    SendEvent as SendEvent,
    SubscribeEvent as SubscribeEvent,
    UnsubscribeEvent as UnsubscribeEvent,
)

# --- from outside: clients, workers, other workflows
# -------------------------------------------------------------------


class StartWorkflow(NamedTuple):
    """Start a run.

    `version` 0 is the newest the owner has; `conflict` and `reuse` as semantics.md, and `queue`: a call of an entity,
    which runs when those before it have ended. Times in ms, 0 none. `signal` is delivered with the start, or to the run
    that is open.
    """

    workflow_type: str
    arguments: Payload = NOTHING
    version: int = 0
    conflict: str = "fail"
    reuse: str = "allow"
    start_delay_ms: int = 0
    execution_timeout_ms: int = 0
    run_timeout_ms: int = 0
    parent: ParentRef | None = None
    memo: Payload = NOTHING
    signal: str = ""
    signal_payload: Payload = NOTHING
    priority: int = 0
    attributes: tuple[AttributeValue, ...] = ()
    summary: str = ""


class SignalWorkflow(NamedTuple):
    """Deliver a value to a run (the current one unless `run_id` is given)."""

    name: str
    payload: Payload = NOTHING
    run_id: str = ""


class CancelWorkflow(NamedTuple):
    """Ask a run to end: cooperative, delivered once."""

    run_id: str = ""


class TerminateWorkflow(NamedTuple):
    """End a run at once; its code sees nothing."""

    run_id: str = ""


class RetryWorkflow(NamedTuple):
    """Resume a parked run (after a fix)."""

    run_id: str = ""


class PauseWorkflow(NamedTuple):
    """Let a run's code stand still until it is resumed; what it has asked for goes on."""

    run_id: str = ""


class ResumeWorkflow(NamedTuple):
    """Let a paused run go on."""

    run_id: str = ""


class StartStep(NamedTuple):
    """A worker asks for the grant of an offered task; the first accepted wins."""

    run_id: str
    step: str
    attempt: int
    token: str
    worker: str
    lease_ms: int


class HeartbeatStep(NamedTuple):
    """A running step is alive; renews the lease and keeps `details` for the next attempt."""

    run_id: str
    step: str
    attempt: int
    token: str
    details: Payload = NOTHING


class ReportStep(NamedTuple):
    """The outcome of one attempt: `failure` None means completed with `result`."""

    run_id: str
    step: str
    attempt: int
    token: str
    result: Payload = NOTHING
    failure: Failure | None = None
    crashed: bool = False


class ResolveStep(NamedTuple):
    """A person or another process speaks for a step: `action` is complete, fail, retry or heartbeat (with `result`)."""

    run_id: str
    step: str
    action: str
    result: Payload = NOTHING
    failure: Failure | None = None


class ReportChild(NamedTuple):
    """A child's outcome, sent by its engine to the parent's partition.

    Completed, failed, cancelled, terminated, started.
    """

    run_id: str
    step: str
    child_run_id: str
    outcome: str
    result: Payload = NOTHING
    failure: Failure | None = None


class QueryWorkflow(NamedTuple):
    """A read-only question, answered between batches from proven state, without event, row or dedup.

    `kind` is describe, result, update, history, list, routing, schedule, schedules, limit, limits, events, approvals,
    approval, code (a question to workflow code, named `name`), entity (a read of an entity, named `name`) or attempt
    (whether an attempt of step `name` is wanted: who carries it on asks).
    """

    kind: str
    run_id: str = ""
    name: str = ""
    arguments: Payload = NOTHING
    wait_ms: int = 0


class ChangeLevel(NamedTuple):
    """Raise the partition's feature level: there is no way back (`orchestrator upgrade finalize`)."""

    level: int


class ChangeRouting(NamedTuple):
    """Route by the last of these partition counts from here on; the others are those of before, oldest first.

    `topics grow` sends it to every partition, with an empty workflow id.
    """

    epochs: tuple[int, ...]


# --- from the engine itself
# ---------------------------------------------------------------------------------------------


class FireTimer(NamedTuple):
    """A due timer row."""

    run_id: str
    kind: str
    ref: str
    due_at_ms: int


# --- from workflow code, during a turn
# ---------------------------------------------------------------------------------- `path` and `n` are the identity
# fixed where the call is made: (task path, creation number within the task).


class ScheduleStep(NamedTuple):
    """Run a step."""

    path: str
    n: int
    name: str
    call_site: str
    arguments: Payload
    options: StepOptions = DEFAULT_STEP_OPTIONS


class CancelStep(NamedTuple):
    """Stop waiting for a step and tell it so."""

    step: str


class SetTimer(NamedTuple):
    """Wake the code at `due_at_ms` (the log's clock)."""

    path: str
    n: int
    due_at_ms: int
    call_site: str


class CancelTimer(NamedTuple):
    """Forget a timer."""

    timer: str


class StartChild(NamedTuple):
    """Start a child run; `workflow_id` "" derives one from the parent's run and the step."""

    path: str
    n: int
    workflow_type: str
    version: int
    workflow_id: str
    arguments: Payload
    call_site: str
    close_policy: str = "terminate"
    conflict: str = "fail"
    reuse: str = "allow"
    start_delay_ms: int = 0
    execution_timeout_ms: int = 0
    run_timeout_ms: int = 0
    memo: Payload = NOTHING
    attributes: tuple[AttributeValue, ...] = ()
    summary: str = ""
    priority: int = 0


class CancelChild(NamedTuple):
    """Ask a child to cancel."""

    child: str


class SendSignal(NamedTuple):
    """Signal another workflow, by outbox."""

    path: str
    n: int
    workflow_id: str
    name: str
    payload: Payload
    call_site: str


class SendCancel(NamedTuple):
    """Ask another workflow to cancel, by outbox."""

    path: str
    n: int
    workflow_id: str
    reason: str
    call_site: str


class RecordPatch(NamedTuple):
    """The code takes the new side of a change; `deprecated`: there is no other side any more."""

    patch: str
    deprecated: bool
    call_site: str


class AnnotateRun(NamedTuple):
    """What a turn says of its run: attributes that change, and a summary of where it is (None: as before)."""

    attributes: tuple[AttributeValue, ...] = ()
    summary: str | None = None


class ChangeEntity(NamedTuple):
    """A call of entity `name` ends and leaves it in this state."""

    name: str
    state: Payload


TopicCommand = (
    StartWorkflow
    | SignalWorkflow
    | UpdateWorkflow
    | ForkWorkflow
    | CancelWorkflow
    | TerminateWorkflow
    | RetryWorkflow
    | PauseWorkflow
    | ResumeWorkflow
    | StartStep
    | HeartbeatStep
    | ReportStep
    | ResolveStep
    | ReportChild
    | QueryWorkflow
    | ChangeRouting
    | ChangeLevel
    | CreateSchedule
    | PauseSchedule
    | TriggerSchedule
    | BackfillSchedule
    | DeleteSchedule
    | AcquireSlots
    | ReleaseSlots
    | AdmitTask
    | SendEvent
    | SubscribeEvent
    | UnsubscribeEvent
    | DeliverEvent
    | DecideApproval
)
TurnCommand = (
    ScheduleStep
    | CancelStep
    | SetTimer
    | CancelTimer
    | StartChild
    | CancelChild
    | SendSignal
    | SendCancel
    | CompleteUpdate
    | RecordPatch
    | AnnotateRun
    | ChangeEntity
    | AwaitEvent
    | CancelWait
    | AskApproval
    | WithdrawApproval
    | PublishEvent
    | CompleteRun
    | FailRun
    | CancelRun
    | ContinueAsNew
    | ParkRun
)


class Command(NamedTuple):
    """A command with its envelope, as it travels on `<app>.commands`.

    `id` is a UUIDv7 or the user's idempotency key.
    """

    id: str
    workflow_id: str
    body: TopicCommand
    actor: Actor = Actor()
    reason: str = ""
    time_ms: int = 0
    trace: str = ""
    reply_to: ReplyTo | None = None
