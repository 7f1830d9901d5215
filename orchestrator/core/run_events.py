"""A run's history: `seq` 1..n. One record type each; fields here and in `schemas/events` are the same.

A body whose first field is `turn` was issued by workflow code in the turn that delivered the event with that `seq`.
"""

from __future__ import annotations

from typing import NamedTuple

from .values import (
    DEFAULT_STEP_OPTIONS,
    NOTHING,
    Actor,
    AttributeValue,
    CodeIdentity,
    Failure,
    LimitNeed,
    ParentRef,
    Payload,
    StepOptions,
)
from .waits import Heard

SUGGEST_AT = 4_096
"""Temporal's default."""


class RunStarted(NamedTuple):
    """A run exists. `version` 0: its owner lacks the code; `RunPinned` names it later. `queued`: a call of an entity,
    which waits for its turn (`EntityAdmitted`). `execution_ends_ms`: when the time-out of the whole execution is over,
    told to a run that continues another one; else `execution_timeout_ms` counts from here, after the delay. `limits`:
    what it needs before its code begins (`RunAdmitted`). `forked_upto`: the events 2 to this one are a copy of those of
    `previous_run_id`, with the moments of those. `heard`: events that the runs before it got. `suggest_at`: the length
    of history from which its code is told that it might continue as new; 0: never. `priority`: of the limits that
    `RunPinned` names; `limits` have it."""

    workflow_type: str
    version: int
    arguments: Payload
    seed: str
    code: CodeIdentity = CodeIdentity()
    actor: Actor = Actor()
    reason: str = ""
    parent: ParentRef | None = None
    previous_run_id: str = ""
    memo: Payload = NOTHING
    start_delay_ms: int = 0
    execution_timeout_ms: int = 0
    run_timeout_ms: int = 0
    queued: bool = False
    execution_ends_ms: int = 0
    limits: tuple[LimitNeed, ...] = ()
    forked_upto: int = 0
    attributes: tuple[AttributeValue, ...] = ()
    summary: str = ""
    heard: tuple[Heard, ...] = ()
    suggest_at: int = SUGGEST_AT
    priority: int = 0


class RunPinned(NamedTuple):
    """Code for the run was found: it is pinned to this version, and needs a slot of its `limits` before it begins."""

    version: int
    code: CodeIdentity
    limits: tuple[LimitNeed, ...] = ()


class RunAdmitted(NamedTuple):
    """The run holds a slot of every limit that it needs: its code begins."""


class StepScheduled(NamedTuple):
    """A step is to run: on the log before its effect begins."""

    turn: int
    path: str
    n: int
    name: str
    call_site: str
    arguments: Payload
    options: StepOptions = DEFAULT_STEP_OPTIONS


class StepAdmitted(NamedTuple):
    """The attempt holds a slot of every limit that the step needs: it may begin."""

    step: str
    attempt: int


class StepStarted(NamedTuple):
    """An attempt of an `on_crash` fail or park step, committed before it begins; not begun after `start_within_ms`."""

    step: str
    attempt: int
    token: str
    instance: str
    start_within_ms: int


class StepLeased(NamedTuple):
    """A worker was granted the attempt."""

    step: str
    attempt: int
    token: str
    worker: str
    lease_ms: int


class StepHeartbeat(NamedTuple):
    """A heartbeat whose details the next attempt gets."""

    step: str
    attempt: int
    details: Payload


class StepCompleted(NamedTuple):
    """A step's one result. `actor` gave it from outside; None: the attempt did."""

    step: str
    attempt: int
    result: Payload
    actor: Actor | None = None


class StepAttemptFailed(NamedTuple):
    """An attempt failed; the next begins at `retry_at_ms` (log clock), waiting as a timer row only."""

    step: str
    attempt: int
    failure: Failure
    retry_at_ms: int


class StepRetried(NamedTuple):
    """The back-off is over: `attempt` begins."""

    step: str
    attempt: int


class StepFailed(NamedTuple):
    """A step's final failure; `timeout` names the time-out that ended it, else "". `actor` failed it from outside."""

    step: str
    attempt: int
    failure: Failure
    timeout: str = ""
    actor: Actor | None = None


class StepInterrupted(NamedTuple):
    """The owner of a `fail` or `park` attempt is gone: its effect may have happened, or still be in flight."""

    step: str
    attempt: int


class StepParked(NamedTuple):
    """The step waits for a person: complete, fail or retry it."""

    step: str
    attempt: int
    failure: Failure


class StepHandedOver(NamedTuple):
    """The old owner goes on running the attempt for `grace_ms` and reports by command."""

    step: str
    attempt: int
    instance: str
    grace_ms: int


class StepCancelRequested(NamedTuple):
    """Workflow code cancelled the step."""

    turn: int
    step: str


class StepCancelled(NamedTuple):
    """The step ended as cancelled."""

    step: str
    attempt: int


class TimerSet(NamedTuple):
    """A durable timer of workflow code."""

    turn: int
    path: str
    n: int
    due_at_ms: int
    call_site: str


class TimerFired(NamedTuple):
    """The timer is due by the log's clock. Fires once, never early."""

    timer: str
    due_at_ms: int


class TimerCancelled(NamedTuple):
    """Workflow code forgot the timer; it never fires."""

    turn: int
    timer: str


class SignalReceived(NamedTuple):
    """A signal, kept until code takes it."""

    name: str
    payload: Payload
    actor: Actor = Actor()


class CancelRequested(NamedTuple):
    """Someone asked the run to cancel."""

    actor: Actor = Actor()
    reason: str = ""


class ChildScheduled(NamedTuple):
    """A child run is to start."""

    turn: int
    path: str
    n: int
    workflow_type: str
    version: int
    child_workflow_id: str
    arguments: Payload
    call_site: str
    close_policy: str
    conflict: str = "fail"
    reuse: str = "allow"
    start_delay_ms: int = 0
    execution_timeout_ms: int = 0
    run_timeout_ms: int = 0
    memo: Payload = NOTHING
    attributes: tuple[AttributeValue, ...] = ()
    summary: str = ""
    priority: int = 0


class ChildStarted(NamedTuple):
    """The child run exists."""

    child: str
    child_run_id: str


class ChildRestarted(NamedTuple):
    """A child that had no outcome where its parent was forked begins anew, and is asked to cancel if it was before."""

    child: str
    cancelled: bool = False


class ChildCompleted(NamedTuple):
    """The child's result."""

    child: str
    result: Payload


class ChildFailed(NamedTuple):
    """The child ended otherwise: `outcome` is failed, cancelled, terminated or rejected."""

    child: str
    outcome: str
    failure: Failure


class ChildCancelRequested(NamedTuple):
    """Workflow code cancelled the child."""

    turn: int
    child: str


class SignalSent(NamedTuple):
    """A signal to another workflow left by the outbox."""

    turn: int
    path: str
    n: int
    target_workflow_id: str
    name: str
    payload: Payload
    call_site: str


class CancelSent(NamedTuple):
    """Another workflow was asked to cancel: the request left by the outbox."""

    turn: int
    path: str
    n: int
    target_workflow_id: str
    reason: str
    call_site: str


class EntityAdmitted(NamedTuple):
    """The turn of this call has come: no other call of its entity runs. `state` is what the one before left."""

    state: Payload = NOTHING


class EntityChanged(NamedTuple):
    """The call ends and leaves its entity in this state."""

    turn: int
    state: Payload


class RunAnnotated(NamedTuple):
    """The code said something of its run: attributes that change, and where it is (`summary` None: as before)."""

    turn: int
    attributes: tuple[AttributeValue, ...] = ()
    summary: str | None = None


class RunPatched(NamedTuple):
    """The code took the new side of a change, here and from here on. `deprecated`: code without it reads this too."""

    turn: int
    patch: str
    deprecated: bool
    call_site: str


class RunParked(NamedTuple):
    """The run stands still until a fixed deploy or `workflow retry`. Nothing is lost."""

    kind: str
    message: str
    call_site: str


class RunResumed(NamedTuple):
    """The run is runnable again."""

    actor: Actor = Actor()
    reason: str = ""


class RunPaused(NamedTuple):
    """Somebody lets the run's code stand still: no turn until `RunResumed`. Outcomes and signals are recorded."""

    actor: Actor = Actor()
    reason: str = ""


class RunCompleted(NamedTuple):
    """Terminal: the main function returned."""

    turn: int
    result: Payload


class RunFailed(NamedTuple):
    """Terminal: the main function raised an error that fails the run, or a run time-out (turn 0)."""

    turn: int
    failure: Failure


class RunCancelled(NamedTuple):
    """Terminal: cancelled after a request."""

    turn: int


class RunTerminated(NamedTuple):
    """Terminal: ended from outside without the code's consent."""

    actor: Actor = Actor()
    reason: str = ""


class RunContinuedAsNew(NamedTuple):
    """Terminal: the same workflow goes on as `new_run_id` with fresh history."""

    turn: int
    arguments: Payload
    new_run_id: str
