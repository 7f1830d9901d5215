"""Events: committed facts, past tense, with their place on the log.

The bodies are in `run_events` and `partition_events`.
"""

from __future__ import annotations

from typing import NamedTuple

from .approvals import (
    ApprovalAsked as ApprovalAsked,
    ApprovalDecided as ApprovalDecided,
    ApprovalExpired as ApprovalExpired,
    ApprovalWithdrawn as ApprovalWithdrawn,
)
from .flow_events import (
    LimitForgotten as LimitForgotten,
    SlotsAwaited as SlotsAwaited,
    SlotsGranted as SlotsGranted,
    SlotsMoved as SlotsMoved,
    SlotsReleased as SlotsReleased,
    TaskDisplaced as TaskDisplaced,
)
from .partition_events import (
    BatchFooter as BatchFooter,
    CommandAccepted as CommandAccepted,
    CommandForwarded as CommandForwarded,
    CommandRejected as CommandRejected,
    CommandReturned as CommandReturned,
    DeadLettered as DeadLettered,
    InputLost as InputLost,
    LevelChanged as LevelChanged,
    LogAccepted as LogAccepted,
    PartitionClaimed as PartitionClaimed,
    PartitionReleased as PartitionReleased,
    RoutingChanged as RoutingChanged,
    RunPurged as RunPurged,
    SendFailed as SendFailed,
    TopicsAdopted as TopicsAdopted,
    TurnAttempted as TurnAttempted,
)
from .run_events import (
    SUGGEST_AT as SUGGEST_AT,
    CancelRequested as CancelRequested,
    CancelSent as CancelSent,
    ChildCancelRequested as ChildCancelRequested,
    ChildCompleted as ChildCompleted,
    ChildFailed as ChildFailed,
    ChildRestarted as ChildRestarted,
    ChildScheduled as ChildScheduled,
    ChildStarted as ChildStarted,
    EntityAdmitted as EntityAdmitted,
    EntityChanged as EntityChanged,
    RunAdmitted as RunAdmitted,
    RunAnnotated as RunAnnotated,
    RunCancelled as RunCancelled,
    RunCompleted as RunCompleted,
    RunContinuedAsNew as RunContinuedAsNew,
    RunFailed as RunFailed,
    RunParked as RunParked,
    RunPatched as RunPatched,
    RunPaused as RunPaused,
    RunPinned as RunPinned,
    RunResumed as RunResumed,
    RunStarted as RunStarted,
    RunTerminated as RunTerminated,
    SignalReceived as SignalReceived,
    SignalSent as SignalSent,
    StepAdmitted as StepAdmitted,
    StepAttemptFailed as StepAttemptFailed,
    StepCancelled as StepCancelled,
    StepCancelRequested as StepCancelRequested,
    StepCompleted as StepCompleted,
    StepFailed as StepFailed,
    StepHandedOver as StepHandedOver,
    StepHeartbeat as StepHeartbeat,
    StepInterrupted as StepInterrupted,
    StepLeased as StepLeased,
    StepParked as StepParked,
    StepRetried as StepRetried,
    StepScheduled as StepScheduled,
    StepStarted as StepStarted,
    TimerCancelled as TimerCancelled,
    TimerFired as TimerFired,
    TimerSet as TimerSet,
)
from .schedule_events import (
    ScheduleCreated as ScheduleCreated,
    ScheduleDeleted as ScheduleDeleted,
    ScheduleFired as ScheduleFired,
    SchedulePaused as SchedulePaused,
    ScheduleRunEnded as ScheduleRunEnded,
)
from .update_events import UpdateAccepted as UpdateAccepted, UpdateCompleted as UpdateCompleted
from .values import NO_CAUSE, Cause
from .wait_events import (
    EventAwaited as EventAwaited,
    EventDelivered as EventDelivered,
    EventMatched as EventMatched,
    EventPublished as EventPublished,
    EventSent as EventSent,
    EventsExpired as EventsExpired,
    EventSubscribed as EventSubscribed,
    EventUnsubscribed as EventUnsubscribed,
    WaitCancelled as WaitCancelled,
    WaitRestarted as WaitRestarted,
)

RunBody = (
    RunStarted
    | RunPinned
    | RunAdmitted
    | StepScheduled
    | StepAdmitted
    | StepStarted
    | StepLeased
    | StepHeartbeat
    | StepCompleted
    | StepAttemptFailed
    | StepRetried
    | StepFailed
    | StepInterrupted
    | StepParked
    | StepHandedOver
    | StepCancelRequested
    | StepCancelled
    | TimerSet
    | TimerFired
    | TimerCancelled
    | SignalReceived
    | UpdateAccepted
    | UpdateCompleted
    | CancelRequested
    | ChildScheduled
    | ChildStarted
    | ChildRestarted
    | ChildCompleted
    | ChildFailed
    | ChildCancelRequested
    | SignalSent
    | CancelSent
    | EntityAdmitted
    | EntityChanged
    | RunPatched
    | RunAnnotated
    | EventAwaited
    | ApprovalAsked
    | ApprovalDecided
    | ApprovalExpired
    | ApprovalWithdrawn
    | EventPublished
    | EventDelivered
    | WaitCancelled
    | WaitRestarted
    | RunParked
    | RunResumed
    | RunPaused
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunTerminated
    | RunContinuedAsNew
)
PartitionBody = (
    CommandRejected
    | CommandAccepted
    | PartitionClaimed
    | PartitionReleased
    | TurnAttempted
    | SendFailed
    | DeadLettered
    | RunPurged
    | CommandForwarded
    | CommandReturned
    | RoutingChanged
    | LevelChanged
    | InputLost
    | ScheduleCreated
    | SchedulePaused
    | ScheduleFired
    | ScheduleRunEnded
    | ScheduleDeleted
    | EventSent
    | EventSubscribed
    | EventMatched
    | EventUnsubscribed
    | EventsExpired
    | LogAccepted
    | TopicsAdopted
    | SlotsAwaited
    | SlotsMoved
    | SlotsGranted
    | SlotsReleased
    | TaskDisplaced
    | LimitForgotten
    | BatchFooter
)
Body = RunBody | PartitionBody

TERMINAL = (RunCompleted, RunFailed, RunCancelled, RunTerminated, RunContinuedAsNew)
"""Nothing follows one of these in a run's history (I2)."""

DELIVERABLE = (
    RunStarted,
    StepCompleted,
    StepFailed,
    StepCancelled,
    TimerFired,
    SignalReceived,
    UpdateAccepted,
    CancelRequested,
    ChildCompleted,
    ChildFailed,
    EntityAdmitted,
    EventDelivered,
    ApprovalDecided,
    ApprovalExpired,
)
"""The events that workflow code can see: each is delivered alone and takes one turn."""


class Event(NamedTuple):
    """A fact with its place.

    `seq` is 1..n in its run, 0 for the partition's records; times in ms of the log's clock. `original_ms`: of a
    copied event (`RunStarted.forked_upto`), when it was recorded first.
    """

    workflow_id: str
    run_id: str
    seq: int
    body: Body
    cause: Cause = NO_CAUSE
    recorded_at_ms: int = 0
    claim_no: int = 0
    batch_no: int = 0
    batch_index: int = 0
    prev_hash: bytes = b""
    trace: str = ""
    original_ms: int = 0

    @property
    def code_ms(self) -> int:
        """The moment that workflow code is told."""
        return self.original_ms or self.recorded_at_ms


class Record(NamedTuple):
    """An event as it stands on the log: key and value bytes as on the wire, and the hash over both (format.md)."""

    event: Event
    key: bytes
    value: bytes
    hash: bytes
