"""Rows: what `apply` folds events into. One record type of `schemas/rows` each; keys are built in `store/keys`'s
order here.

Families: meta, runs, steps, timers, outbox, dedup, index, history, schedules, entities, updates, limits, events,
approvals. A key is a tuple of strings and integers; the store encodes it so that byte order equals tuple order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .approvals import ApprovalRow as ApprovalRow
from .commands import Command
from .limit_rows import (
    LIMITS as LIMITS,
    HolderRow as HolderRow,
    LaneRow as LaneRow,
    LaterRow as LaterRow,
    LimitHomeRow as LimitHomeRow,
    LimitRow as LimitRow,
    LimitTaskRow as LimitTaskRow,
    RateRow as RateRow,
    TurnRow as TurnRow,
    WaiterRow as WaiterRow,
)
from .schedules import ScheduleRow as ScheduleRow
from .tasks import DeadLetter, Forward, Reply, StopStep, TaskOffer
from .values import (
    NOTHING,
    AttributeValue,
    BatchId,
    CodeIdentity,
    Failure,
    InputPosition,
    LimitNeed,
    ParentRef,
    Payload,
    ReplyTo,
    StepOptions,
)
from .waits import (
    SubscriptionRow as SubscriptionRow,
    TopicEventRow as TopicEventRow,
    TopicRow as TopicRow,
    WaitRow as WaitRow,
)

NEVER_MS = 1 << 62
"""Later than every timer is due."""

META = "meta"
RUNS = "runs"
STEPS = "steps"
TIMERS = "timers"
OUTBOX = "outbox"
DEDUP = "dedup"
INDEX = "index"
HISTORY = "history"
SCHEDULES = "schedules"
ENTITIES = "entities"
UPDATES = "updates"
EVENTS = "events"
APPROVALS = "approvals"
FAMILIES = (
    *(META, RUNS, STEPS, TIMERS, OUTBOX, DEDUP, INDEX, HISTORY),
    *(SCHEDULES, ENTITIES, UPDATES, LIMITS, EVENTS, APPROVALS),
)

Part = str | int
Message = Command | Reply | TaskOffer | StopStep | DeadLetter | Forward
Key = tuple[Part, ...]


class RunRow(NamedTuple):
    """The head of a run. `status`: running, parked, waiting_for_code, delayed, queued, or a closed one.

    `turn` is the `seq` of the newest delivery whose turn is on the log, by the commands that it issued or by a record
    that it issued none; `delivered` the newest deliverable event;
    `attempts` counts careful-mode turn attempts since the last committed turn; `call` is its number among the calls of
    its entity, 0 for every other run. `run_timeout_ms`, `execution_ends_ms` (a moment, 0: never) and `memo` go on to
    the run that continues it.
    """

    workflow_type: str
    version: int
    status: str
    seq: int
    head_hash: bytes
    seed: str
    started_at_ms: int
    turn: int = 0
    delivered: int = 0
    closed_at_ms: int = 0
    parent: ParentRef | None = None
    cancel_requested: bool = False
    parked_kind: str = ""
    parked_message: str = ""
    parked_at: str = ""
    attempts: int = 0
    pending_steps: int = 0
    pending_timers: int = 0
    pending_children: int = 0
    steps_done: int = 0
    result: Payload = NOTHING
    failure: Failure | None = None
    next_run_id: str = ""
    code: CodeIdentity = CodeIdentity()
    patches: tuple[str, ...] = ()
    call: int = 0
    run_timeout_ms: int = 0
    execution_ends_ms: int = 0
    memo: Payload = NOTHING
    pending_updates: int = 0
    limits: tuple[LimitNeed, ...] = ()
    admitted: bool = False
    forked_upto: int = 0
    attributes: tuple[AttributeValue, ...] = ()
    summary: str = ""
    current_summary: str = ""
    pending_waits: int = 0
    pending_approvals: int = 0


_RUN_FIELDS = {name: at for at, name in enumerate(RunRow._fields)}


def changed(run: RunRow, fields: Mapping[str, Any]) -> RunRow:
    """`run._replace(**fields)` in half the time: every event of a run changes its row."""
    values = list(run)
    for name, value in fields.items():
        values[_RUN_FIELDS[name]] = value
    return tuple.__new__(RunRow, values)


class CurrentRow(NamedTuple):
    """The newest run of a workflow id."""

    run_id: str


class StepRow(NamedTuple):
    """A step without a result. `state`: limited, scheduled, started, leased, backoff, interrupted, parked, handed_over.

    `reply_to` is where the worker that holds the lease hears. `cancelled`: its end was asked for and is waited for.
    `asks_later` not 0: it waits for slots, and for its turn to ask for them.
    """

    name: str
    state: str
    attempt: int
    scheduled_seq: int
    scheduled_at_ms: int
    options: StepOptions
    token: str = ""
    worker: str = ""
    since_ms: int = 0
    window_ms: int = 0
    details: Payload = NOTHING
    cancelled: bool = False
    crashes: int = 0
    timers: tuple[str, ...] = ()
    reply_to: ReplyTo | None = None
    asks_later: int = 0


class ChildRow(NamedTuple):
    """A child without an outcome."""

    workflow_type: str
    child_workflow_id: str
    child_run_id: str
    close_policy: str
    scheduled_seq: int


class TimerRow(NamedTuple):
    """A timer, ordered by due time. `kind`: sleep, retry, lease, start_to_close, ...

    ; `ref` is the timer's or step's id.
    """

    workflow_id: str
    run_id: str
    kind: str
    ref: str


class TimerDueRow(NamedTuple):
    """Where a timer's row is: its due time."""

    due_at_ms: int


class OutboxRow(NamedTuple):
    """One record to send once proven. `topic` is the name after `<app>.`; `partition` -1 is murmur2 of `key`.

    `step` names the step that fails when the record cannot be sent ("" when none does).
    """

    topic: str
    partition: int
    key: str
    body: Message
    workflow_id: str = ""
    run_id: str = ""
    step: str = ""


class DedupRow(NamedTuple):
    """The original answer of a command."""

    reply: Reply
    expires_at_ms: int


class PositionRow(NamedTuple):
    """How far the state reflects the log: the last footer's identity, offset after it, hash, and what it says."""

    next_offset: int
    batch: BatchId
    footer_hash: bytes
    position: InputPosition
    now_ms: int
    outbox_upto: BatchId
    level: int


class ClaimRow(NamedTuple):
    """The last claim found, and whether its owner released cleanly. `accepts_from` not -1: a repair's.

    `generation`: the newest static map that a claim was made by.
    """

    claim_no: int
    nonce: str
    instance: str
    host: str
    lanes: tuple[str, ...]
    released: bool
    partitions: int
    accepts_from: int = -1
    generation: int = 0


class RoutingRow(NamedTuple):
    """The partition counts that commands were routed by, oldest first; the last one is today's."""

    epochs: tuple[int, ...]


class AskedRow(NamedTuple):
    """An older place was asked for commands of this workflow; the newest of them was read at `offset`."""

    offset: int
    expires_at_ms: int


class ExpiryRow(NamedTuple):
    """When a dedup row (an AskedRow, if `command_id` is empty) may go; ordered by time."""

    command_id: str


class IndexRow(NamedTuple):
    """An entry of the index of runs by status."""

    workflow_type: str
    started_at_ms: int


class EntityRow(NamedTuple):
    """An entity: its state, the run of the call that has its turn (""), and how many wait. `calls` numbers them all."""

    state: Payload = NOTHING
    running: str = ""
    waiting: int = 0
    calls: int = 0


class EntityCallRow(NamedTuple):
    """A call that waits for its turn."""

    run_id: str


class UpdateRow(NamedTuple):
    """An update that a run took. `state`: accepted, completed, failed, or closed (the run ended first)."""

    name: str
    state: str
    result: Payload = NOTHING
    failure: Failure | None = None


POSITION_KEY: Key = ("position",)
CLAIM_KEY: Key = ("claim",)
ROUTING_KEY: Key = ("routing",)


def run_key(workflow_id: str, run_id: str) -> Key:
    """Key of a RunRow in RUNS."""
    return (workflow_id, run_id)


def current_key(workflow_id: str) -> Key:
    """Key of a CurrentRow in RUNS; sorts before the runs of its workflow."""
    return (workflow_id,)


def step_key(workflow_id: str, run_id: str, step: str) -> Key:
    """Key of a StepRow, ChildRow or WaitRow in STEPS."""
    return (workflow_id, run_id, step)


def timer_key(due_at_ms: int, workflow_id: str, run_id: str, timer: str) -> Key:
    """Key of a TimerRow in TIMERS, by due time. `timer` is `kind|ref`."""
    return (1, due_at_ms, workflow_id, run_id, timer)


def due_of(key: Key) -> int:
    """When the timer of a key in TIMERS is due; NEVER_MS if the key is not of a TimerRow."""
    return key[1] if len(key) > 1 and key[0] == 1 and isinstance(key[1], int) else NEVER_MS


def timer_due_key(workflow_id: str, run_id: str, timer: str) -> Key:
    """Key of a TimerDueRow in TIMERS."""
    return (0, workflow_id, run_id, timer)


def outbox_key(claim_no: int, batch_no: int, index: int, n: int) -> Key:
    """Key of an OutboxRow in OUTBOX, in the order of sending."""
    return (claim_no, batch_no, index, n)


def dedup_key(workflow_id: str, command_id: str) -> Key:
    """Key of a DedupRow in DEDUP."""
    return (0, workflow_id, command_id)


def asked_key(workflow_id: str) -> Key:
    """Key of an AskedRow in DEDUP."""
    return (2, workflow_id)


def expiry_key(expires_at_ms: int, workflow_id: str, command_id: str) -> Key:
    """Key of an ExpiryRow in DEDUP."""
    return (1, expires_at_ms, workflow_id, command_id)


def schedule_key(name: str) -> Key:
    """Key of a ScheduleRow in SCHEDULES; `name` is the prefix and the schedule's id, as in its commands."""
    return (name,)


def entity_key(workflow_id: str) -> Key:
    """Key of an EntityRow in ENTITIES; sorts before the calls that wait."""
    return (workflow_id,)


def entity_call_key(workflow_id: str, call: int) -> Key:
    """Key of an EntityCallRow in ENTITIES, in the order of the calls."""
    return (workflow_id, call)


def update_key(workflow_id: str, run_id: str, update: str) -> Key:
    """Key of an UpdateRow in UPDATES."""
    return (workflow_id, run_id, update)


def index_key(status: str, started_at_ms: int, workflow_id: str, run_id: str) -> Key:
    """Key of an IndexRow in INDEX: runs by status, oldest first."""
    return (status, started_at_ms, workflow_id, run_id)


def history_key(workflow_id: str, run_id: str, seq: int) -> Key:
    """Key of a Record in HISTORY."""
    return (workflow_id, run_id, seq)
