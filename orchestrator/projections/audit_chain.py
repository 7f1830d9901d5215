"""Whole batches checked without decoding them: hashes, roots and both chains are bytes that can be foretold.

What the next event of a run begins with follows from the one before it: its workflow and run, the next `seq`, its place
in the batch, and in `prev_hash` the hash just computed. Where the bytes are those, the event is right; where they are
not, nothing is said here: the batch is left to the reader that decodes it and can say what is wrong and where. So this
may be fast, and has only to be sure of what it accepts. Who wants to see the events gets them with no more decoded than
what could not be foretold: the bodies.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from ..codec.compiled import Reader, number, read_number
from ..codec.records import HASH_TAG, MALFORMED, Codec, event_hash
from ..core.events import (
    TERMINAL,
    BatchFooter,
    Event,
    InputLost,
    LogAccepted,
    PartitionClaimed,
    RunStarted,
    TopicsAdopted,
)
from ..core.levels import beyond
from ..core.replay import BatchAssembler, root_of
from ..core.values import NO_CAUSE, BatchId
from ..errors import UndecodableRecord
from ..log.ports import Wire
from .audit_laws import NO_HASH, Head, Laws

CLOSELY = (BatchFooter, PartitionClaimed, LogAccepted, TopicsAdopted, InputLost)
"""Whatever is among these is looked at by the reader that decodes."""
UNCAUSED = b"\x00\x00\x01\x01\x00\x00"
"""An event caused by the engine itself, in Avro: no command, no topic, -1, -1, no answer, nobody to reply to."""

_new = tuple.__new__
_size = struct.Struct(">I").pack
_NUMBERS = tuple(map(number, range(1 << 13)))
_INDEXES = tuple(number(index) + b"\x40" for index in range(1 << 13))
"""An event's index in its batch, and the length of the hash behind it."""


class _Kind(NamedTuple):
    """A record type by the first bytes of its values: where its fields begin, whether it ends a run, and what reads its
    body.
    """

    start: int
    ends: bool
    body: Reader


class Footed(NamedTuple):
    """A batch that is as it must be: which, its footer's hash, and when it was recorded. `events`, if they are wanted,
    each with its run, unless it is the partition's.
    """

    batch: BatchId
    hash: bytes
    recorded_ms: int
    events: Sequence[tuple[Event, Head | None]] = ()


class _Place(NamedTuple):
    """What a footer says of every event before it; `identity` is claim and batch as they stand in each. `at`: where
    its own index in the batch stands, `stamp` its moment as it stands there.
    """

    batch: BatchId
    identity: bytes
    stamp: bytes
    now_ms: int
    at: int


class _Undo:
    """What was moved for a batch that may yet be refused, and what was seen of it. `before`: the runs that it began or
    ended, as they were.
    """

    def __init__(self) -> None:
        self.moved: list[tuple[Head, int, bytes]] = []
        self.events: list[tuple[Event, Head | None]] = []
        self.before: dict[tuple[str, str], Head | None] = {}
        self.began = 0
        self.ended = 0
        self.reflected = -1
        """The highest offset of the partition's input that an event says it reflects."""


class ChainReader:
    """Takes whole batches of one partition and moves the heads of `laws`, which the reader that decodes shares.

    `events`: whoever asks wants to see them.
    """

    def __init__(self, codec: Codec, laws: Laws, *, events: bool) -> None:
        self._codec = codec
        self._laws = laws
        self._wanted = events
        self._kinds: dict[bytes, _Kind] = {}
        self._lead = b""
        self._input = b""
        self._heads: dict[bytes, Head] = {}
        """Open runs by the key of their records: of a workflow's runs the one whose event came last."""

    def forget(self) -> None:
        """Another reader moved heads: runs are to be looked up again."""
        self._heads.clear()

    def learn(self, wire: Wire, body: BatchFooter) -> None:
        """A footer that the reader that decodes found right: the next one begins alike, and names the same input."""
        _, start = self._codec.split(wire.value)
        self._lead = wire.value[:start] + b"\x00\x00\x00" + UNCAUSED
        cluster, topic, partition, _ = body.position
        names = (number(len(data)) + data for data in (cluster.encode(), topic.encode()))
        self._input = b"".join((*names, number(partition)))

    def batch(self, wires: Sequence[Wire], assembler: BatchAssembler) -> Footed | None:
        """The batch that ends with the last of `wires`, if it is wholly as it must be; the assembler stands behind it
        then. None: something is not so, or has to be decoded; nothing was changed.
        """
        wire, undo = wires[-1], _Undo()
        try:
            place = self._place(wire.value, assembler)
            found = self._batch(wires, place, assembler.footer_hash, undo) if place is not None else None
        except (UndecodableRecord, *MALFORMED):
            found = None
        if found is None:
            self._take_back(undo)
            return None
        self._laws.runs += undo.began
        self._laws.closed += undo.ended
        assembler.passed(found.hash, found.batch, wire.offset)
        return found

    def _place(self, value: bytes, assembler: BatchAssembler) -> _Place | None:
        """What a footer begins with, if it is of this claim and of a later batch than the last."""
        at = len(self._lead)
        if not self._lead or not value.startswith(self._lead):
            return None
        now_ms, behind = read_number(value, at)
        stamp = value[at:behind]
        claim_no, at = read_number(value, behind)
        batch_no, at = read_number(value, at)
        batch = BatchId(claim_no, batch_no)
        if claim_no != assembler.claim_no or batch <= assembler.last:
            return None
        return _Place(batch, value[behind:at], stamp, now_ms, at)

    def _batch(self, wires: Sequence[Wire], place: _Place, before: bytes, undo: _Undo) -> Footed | None:
        count, (key, value) = len(wires) - 1, wires[-1][4:6]
        if count >= len(_INDEXES):
            return None
        hashes = self._events(wires, place, undo)
        if hashes is None:
            return None
        covers = b"\x00\x00\x00\x40%b\x40%b" % (before, root_of(hashes))
        told = _NUMBERS[count] + covers + _NUMBERS[count] + self._input
        if not value.startswith(told, place.at):
            return None
        offset, at = read_number(value, place.at + len(told))
        if not value.startswith(place.stamp, at) or undo.reflected >= offset:
            return None
        _, at = read_number(value, at + len(place.stamp))
        _, at = read_number(value, at)
        level, at = read_number(value, at)
        if at != len(value) or beyond(level) or not self._laws.moved(offset, place.now_ms):
            return None
        return Footed(place.batch, event_hash(key, value), place.now_ms, undo.events if self._wanted else ())

    def _events(self, wires: Sequence[Wire], place: _Place, undo: _Undo) -> list[bytes] | None:
        """The hashes of the events, if each is the next one of its run and of its batch."""
        kinds, heads, moved, wanted = self._kinds, self._heads, undo.moved, self._wanted
        # All events of a batch have its footer's moment.
        common = UNCAUSED + place.stamp + place.identity
        hashes: list[bytes] = []
        for index in range(len(wires) - 1):
            wire = wires[index]
            key, value = wire.key, wire.value
            head = heads.get(key)
            kind = kinds.get(value[:10]) or kinds.get(value[:5])
            if head is not None and kind is not None:
                seq = head.seq + 1
                step = _NUMBERS[seq] if seq < 8192 else number(seq)
                told = head.prefix + step + common + _INDEXES[index] + head.hash
                if value.startswith(told, kind.start):
                    if wanted and not self._body(value, kind, kind.start + len(told), index, place, head, undo):
                        return None
                    moved.append((head, head.seq, head.hash))
                    head.seq, head.hash = seq, sha256(head.lead + _size(len(value)) + value).digest()
                    hashes.append(head.hash)
                    if kind.ends:
                        self._end(head, key, undo)
                    continue
            decoded = self._decoded(wire, index, place, undo)
            if decoded is None:
                return None
            hashes.append(decoded)
        return hashes

    def _body(self, value: bytes, kind: _Kind, at: int, index: int, place: _Place, head: Head, undo: _Undo) -> bool:
        """Note an event of which all before its body was foretold; whether its body is one."""
        body, end = kind.body(value, at)
        (workflow, run), (claim_no, batch_no) = head.run, place.batch
        event = (workflow, run, head.seq + 1, body, NO_CAUSE, place.now_ms, claim_no, batch_no, index, head.hash, "", 0)
        undo.events.append((_new(Event, event), head))
        return end == len(value)

    def _decoded(self, wire: Wire, index: int, place: _Place, undo: _Undo) -> bytes | None:
        """The hash of an event that had to be decoded; None: it is not what must come."""
        record = self._codec.decode_event(wire.key, wire.value)
        event, cause = record.event, record.event.cause
        if isinstance(event.body, CLOSELY) or (event.claim_no, event.batch_no, event.batch_index) != (
            *place.batch,
            index,
        ):
            return None
        if cause.offset >= 0 and cause.partition == self._laws.input_partition:
            undo.reflected = max(undo.reflected, cause.offset)
        if not event.seq:
            undo.events.append((event, None))
            return record.hash
        if wire.key != event.workflow_id.encode():
            # Heads are kept by key.
            return None
        head = self._head(event, undo)
        if head is None or (event.seq, event.prev_hash) != (head.seq + 1, head.hash):
            return None
        self._learn(event, head, wire)
        undo.events.append((event, head))
        undo.moved.append((head, head.seq, head.hash))
        head.seq, head.hash = event.seq, record.hash
        if isinstance(event.body, TERMINAL):
            self._end(head, wire.key, undo)
        return record.hash

    def _head(self, event: Event, undo: _Undo) -> Head | None:
        run = (event.workflow_id, event.run_id)
        head = self._laws.open.get(run)
        if isinstance(event.body, RunStarted):
            if head is not None or event.prev_hash != NO_HASH:
                return None
            head = self._laws.open[run] = Head(adopted=False)
            undo.before.setdefault(run, None)
            undo.began += 1
        return head

    def _learn(self, event: Event, head: Head, wire: Wire) -> None:
        """How the next event of this run begins, and how records of this type do."""
        workflow, run = event.workflow_id.encode(), event.run_id.encode()
        head.run = (event.workflow_id, event.run_id)
        head.prefix = number(len(workflow)) + workflow + number(len(run)) + run
        head.lead = HASH_TAG + _size(len(wire.key)) + wire.key
        self._heads[wire.key] = head
        if not isinstance(event.body, RunStarted):
            fingerprint, start = self._codec.split(wire.value)
            body = self._codec.body_reader(fingerprint)
            self._kinds[wire.value[:start]] = _Kind(start, isinstance(event.body, TERMINAL), body)

    def _end(self, head: Head, key: bytes, undo: _Undo) -> None:
        del self._laws.open[head.run]
        self._heads.pop(key, None)
        undo.before.setdefault(head.run, head)
        undo.ended += 1

    def _take_back(self, undo: _Undo) -> None:
        for head, seq, digest in reversed(undo.moved):
            head.seq, head.hash = seq, digest
        for run, before in undo.before.items():
            if before is None:
                self._laws.open.pop(run, None)
            else:
                self._laws.open[run] = before
        self._heads.clear()
