"""The partition's own records: `seq` 0, outside any run's history, covered by the footer chain.

One record type each.
"""

from __future__ import annotations

from typing import NamedTuple

from .values import Actor, BatchId, InputPosition, ParentRef, Payload


class CommandRejected(NamedTuple):
    """A command was refused, and why; a duplicate of it gets the same answer. A refused child start tells `parent`."""

    command: str
    code: str
    message: str
    parent: ParentRef | None = None


class PartitionClaimed(NamedTuple):
    """An owner takes the partition over (design.md §4). One record, without footer.

    `accepts_from` is an offset when a person repairs the partition: from there up to this claim every record is set
    aside, for every reader. Else -1.
    """

    nonce: str
    instance: str
    host: str
    pid: int
    engine: str
    lanes: tuple[str, ...]
    mode: str
    level: int
    commands_topic_id: str
    events_topic_id: str
    partitions: int
    generation: int
    accepts_from: int = -1


class PartitionReleased(NamedTuple):
    """A clean end of ownership: the next owner need not be careful."""

    instance: str


class TurnAttempted(NamedTuple):
    """Careful mode: turn attempt number `attempt` of the run that its header names begins; it may kill its process.

    0: turns came to their end and issued nothing; `seen` is the `seq` of the newest delivery among them. A run that
    waits is known by it: its code has seen everything, and an owner need not replay it to find that out.
    """

    attempt: int
    seen: int = 0


class SendFailed(NamedTuple):
    """An outbox record that cannot be sent; ends its step or run alone."""

    outbox: str
    topic: str
    why: str
    step: str = ""


class DeadLettered(NamedTuple):
    """Input that no run could take: the original bytes and why."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes
    value: Payload


class RunPurged(NamedTuple):
    """A closed run left the state; its history stays on the log."""


class CommandAccepted(NamedTuple):
    """A command whose outcome is no event of a run: `use_existing`, or a request that was already fulfilled."""

    command: str
    code: str
    message: str


class CommandForwarded(NamedTuple):
    """A command that belongs elsewhere was sent on, byte for byte, with its id.

    `hop` is the header it carries. `asked` is its offset here when an older place is asked for it, else -1. `signed` is
    its sender's signature, as its header has it.
    """

    command_id: str
    to_partition: int
    key: bytes
    value: bytes
    hop: str = ""
    asked: int = -1
    signed: str = ""


class CommandReturned(NamedTuple):
    """The newest command that an older place was asked for came back: nothing of its workflow is under way."""

    command_id: str
    asked: int


class RoutingChanged(NamedTuple):
    """From here on the partition count is `partitions`; `epochs` are all counts there were, oldest first."""

    partitions: int
    epochs: tuple[int, ...] = ()
    actor: Actor = Actor()
    reason: str = ""


class LevelChanged(NamedTuple):
    """The feature level in force rises: what stands behind this record's batch may be of this level.

    The batch's own footer has the new level already, so that a reader who cannot follow stops before it.
    """

    level: int
    actor: Actor = Actor()
    reason: str = ""


class InputLost(NamedTuple):
    """A person accepted that commands of these offsets are gone."""

    from_offset: int
    to_offset: int
    actor: Actor = Actor()
    reason: str = ""


class LogAccepted(NamedTuple):
    """A person accepted the log as it is: what was `wrong` with it, and the offsets that are set aside.

    `state_dropped`: a state that reflected more, or something else, was rebuilt from the log. `parked` and `gone` name
    the runs concerned (`workflow/run`), the first of so many: those that the log still has, and those it does not.
    """

    wrong: str
    from_offset: int
    to_offset: int
    state_dropped: bool
    runs_parked: int
    runs_gone: int
    parked: tuple[str, ...]
    gone: tuple[str, ...]
    actor: Actor
    reason: str


class TopicsAdopted(NamedTuple):
    """A person vouched that these topics carry on the same log; `input_offset` is where commands are read from."""

    cluster_id: str
    commands_topic_id: str
    events_topic_id: str
    input_offset: int
    actor: Actor
    reason: str


class BatchFooter(NamedTuple):
    """Last record of every transaction on an events partition but a claim's. Covers the batch by its root."""

    prev_footer_hash: bytes
    root: bytes
    event_count: int
    position: InputPosition
    now_ms: int
    outbox_upto: BatchId
    level: int
