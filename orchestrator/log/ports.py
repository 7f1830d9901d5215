"""Ports of the log: what the engine needs from Kafka.

`orchestrator/log/ports.py` is this file; Kafka and memory implement it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]


class Wire(NamedTuple):
    """A raw record as read from a partition."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: Headers = ()


class Out(NamedTuple):
    """A raw record to be sent. `partition` -1: murmur2 of the key."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers = ()


class Fenced(Exception):
    """Another owner initialised the lane, or the lane cannot go on: end all lanes, claim."""


class Lanes(Protocol):
    """The transactional producers of one partition, always used in order.

    Every error but `init`'s is final: claim again.
    """

    names: tuple[str, ...]

    def init(self, extra: Sequence[str] = ()) -> None:
        """`init_transactions` on every lane in order, then on `extra` (lanes named in the last claim found).

        Retried inside.
        """

    def init_last(self) -> None:
        """Sabotage only (`one_lane_reinitialised`): `init_transactions` on the lane that failed, and on no other."""

    def begin(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin a transaction on the next lane, produce (key, value) records to events[p] and flush.

        No EndTxn is sent.
        """

    def commit(self) -> None:
        """Send EndTxn(commit) of the transaction begun.

        Returns when the broker said OK; raises Fenced on anything else.
        """

    def close(self) -> None:
        """Drop every producer without abort."""


class Tail(Protocol):
    """The process's read_committed reader of owned events partitions."""

    def follow(self, partition: int, offset: int, sink: Callable[[Sequence[Wire]], None]) -> None:
        """Deliver records of events[partition] from `offset` to `sink`, in order, from the reader's thread.

        `sink` never blocks long.
        """

    def unfollow(self, partition: int) -> None: ...

    def pause(self, partition: int) -> None: ...

    def resume(self, partition: int) -> None: ...

    def bounds(self, partition: int) -> tuple[int, int]:
        """(log start offset, last stable offset) of events[partition]."""

    def refused(self) -> str:
        """Why a broker gives nothing, for want of a right; "" while it gives what there is."""

    def reached(self, partition: int) -> int:
        """Every record of the followed partition below this offset is in its sink; 0 if it is not followed."""


class Inputs(Protocol):
    """The process's reader of commands partitions (manual assignment, auto.offset.reset=error)."""

    def follow(
        self, partition: int, offset: int, sink: Callable[[Sequence[Wire]], None], lost: Callable[[int], None]
    ) -> None:
        """Deliver commands[partition] from `offset`; `lost(start)` is called when offset is below the log's start."""

    def unfollow(self, partition: int) -> None: ...

    def pause(self, partition: int) -> None: ...

    def resume(self, partition: int) -> None: ...

    def bounds(self, partition: int) -> tuple[int, int]:
        """(start, end) of commands[partition], asked from the broker now. Behind `end` read_committed sees nothing."""

    def refused(self) -> str:
        """Why a broker gives nothing, for want of a right; "" while it gives what there is."""

    def reached(self, partition: int) -> int:
        """Every record of the followed partition below this offset is in its sink; 0 if it is not followed.

        It passes offsets that hold nothing to deliver (markers, aborted records), so that it comes to `bounds`' end.
        """


class Outgoing(Protocol):
    """The process's one idempotent producer: outbox rows, replies, offsets' metadata go elsewhere."""

    def send(self, record: Out, done: Callable[[str], None]) -> None:
        """Queue; `done("")` once acknowledged, `done(reason)` when it can never be sent (missing topic, too large).

        From the producer's thread. A command waits, and those behind it, while the right to send it is missing.
        """

    def refused(self) -> str:
        """Which right is missing to send commands; "" while they go."""


class Replies(Protocol):
    """A reader of one partition of the replies topic, from its end on."""

    topic: str
    partition: int

    def close(self) -> None: ...


class Membership(Protocol):
    """Which partitions are mine: a group (classic or KIP-848) or a static map."""

    def start(self, assigned: Callable[[Sequence[int]], None], revoked: Callable[[Sequence[int], bool], None]) -> None:
        """Callbacks from its own thread.

        `revoked(partitions, lost)`; a revoke waits until `released(p)` was called for each, or its deadline.
        """

    def released(self, partition: int) -> None: ...

    def commit_offset(self, partition: int, offset: int, metadata: str) -> None:
        """Group offset for tools and witnesses; asynchronous, best effort."""

    def healthy(self) -> bool: ...

    def stop(self) -> None: ...


class TopicIds(NamedTuple):
    """Identity of the app's topics as the cluster sees them now."""

    cluster_id: str
    commands: str
    events: str
    partitions: int
    """Of commands. Events may have more while a growth is under way, never fewer."""


class Log(Protocol):
    """Everything together: one per engine process."""

    app: str

    def topic_ids(self) -> TopicIds: ...
    def lanes(self, partition: int) -> Lanes: ...
    def tail(self) -> Tail: ...
    def standby(self) -> Tail:
        """The reader of partitions that others own: apart from the tail, which nothing may hold up.

        It passes offsets that hold nothing to deliver, so that `reached` comes to `bounds`' end.
        """

    def inputs(self) -> Inputs: ...
    def outgoing(self) -> Outgoing: ...
    def membership(self) -> Membership: ...

    def replies(self, sink: Callable[[bytes], None]) -> Replies:
        """A reader of a partition of replies; returns when what is answered from now on will be heard.

        `sink` gets the value of every record of it, also those meant for others, from the reader's thread. Raises
        KafkaUnavailable, ConfigurationError.
        """

    def noted(self, partition: int) -> str:
        """What `commit_offset` noted last, of whichever process; "" if nothing.

        Raises KafkaUnavailable when the group cannot be asked.
        """

    def first_event(self) -> Wire | None:
        """The first record of the first events partition that holds one; None: the application is new.

        Raises KafkaUnavailable.
        """

    def close(self) -> None: ...
