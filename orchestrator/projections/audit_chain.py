"""Whole batches checked without decoding them: hashes, roots and both chains are bytes that can be foretold.

What the next event of a run begins with follows from the one before it: its workflow and run, the next `seq`, its place
in the batch, and in `prev_hash` the hash just computed. Where the bytes are those, the event is right; where they are
not, nothing is said here: the batch is left to the reader that decodes it and can say what is wrong and where. So this
may be fast, and has only to be sure of what it accepts.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from ..codec.compiled import number
from ..codec.records import HASH_TAG, Codec
from ..core.events import (
    TERMINAL,
    BatchFooter,
    Event,
    InputLost,
    LogAccepted,
    PartitionClaimed,
    Record,
    RunStarted,
    TopicsAdopted,
)
from ..core.replay import LEVEL, BatchAssembler, root_of
from ..core.values import BatchId, InputPosition
from ..errors import UndecodableRecord
from ..log.ports import Wire
from .audit_laws import NO_HASH, Head, Laws

CLOSELY = (BatchFooter, PartitionClaimed, LogAccepted, TopicsAdopted, InputLost)
"""Whatever is among these is looked at by the reader that decodes."""
NO_CAUSE = b"\x00\x00\x01\x01\x00\x00"
"""An event caused by the engine itself, in Avro: no command, no topic, -1, -1, no answer, nobody to reply to."""

_size = struct.Struct(">I").pack
_NUMBERS = tuple(map(number, range(1 << 13)))
_INDEXES = tuple(number(index) + b"\x40" for index in range(1 << 13))
"""An event's index in its batch, and the length of the hash behind it."""


class _Kind(NamedTuple):
    """A record type by the first bytes of its values: where its fields begin, and whether it ends a run."""

    start: int
    ends: bool


class _Place(NamedTuple):
    """What a footer says of every event before it; `identity` is claim and batch as they stand in each."""

    batch: BatchId
    position: InputPosition
    identity: bytes


class _Undo:
    """What was moved for a batch that may yet be refused. `before`: the runs that it began or ended, as they were."""

    def __init__(self) -> None:
        self.moved: list[tuple[Head, int, bytes]] = []
        self.before: dict[tuple[str, str], Head | None] = {}
        self.began = 0
        self.ended = 0


class ChainReader:
    """Takes whole batches of one partition and moves the heads of `laws`, which the reader that decodes shares."""

    def __init__(self, codec: Codec, laws: Laws) -> None:
        self._codec = codec
        self._laws = laws
        self._kinds: dict[bytes, _Kind] = {}
        self._heads: dict[bytes, Head] = {}
        """Open runs by the key of their records: of a workflow's runs the one whose event came last."""

    def forget(self) -> None:
        """Another reader moved heads: runs are to be looked up again."""
        self._heads.clear()

    def batch(self, wires: Sequence[Wire], assembler: BatchAssembler) -> Record | None:
        """The footer, which is the last of `wires`, if the whole batch is as it must be; the assembler stands behind
        it then. None: something is not so, or has to be decoded; nothing was changed.
        """
        footer = self._footer(wires, assembler)
        if footer is None:
            return None
        body, event = footer.event.body, footer.event
        assert isinstance(body, BatchFooter)
        batch = BatchId(event.claim_no, event.batch_no)
        place = _Place(batch, body.position, number(batch.claim_no) + number(batch.batch_no))
        undo = _Undo()
        try:
            hashes = self._events(wires, place, undo)
        except (UndecodableRecord, IndexError):
            hashes = None
        if hashes is None or root_of(hashes) != body.root:
            self._take_back(undo)
            return None
        self._laws.runs += undo.began
        self._laws.closed += undo.ended
        self._laws.footer(footer, wires[-1].offset)
        assembler.passed(footer, batch, wires[-1].offset)
        return footer

    def _footer(self, wires: Sequence[Wire], assembler: BatchAssembler) -> Record | None:
        """The footer decoded, if it follows the last one and covers as many events as there are."""
        try:
            footer = self._codec.decode_event(wires[-1].key, wires[-1].value)
        except UndecodableRecord:
            return None
        body, event = footer.event.body, footer.event
        follows = (
            isinstance(body, BatchFooter)
            and event.claim_no == assembler.claim_no
            and body.prev_footer_hash == assembler.footer_hash
            and BatchId(event.claim_no, event.batch_no) > assembler.last
            and body.event_count == len(wires) - 1 < len(_INDEXES)
            and body.level <= LEVEL
        )
        return footer if follows else None

    def _events(self, wires: Sequence[Wire], place: _Place, undo: _Undo) -> list[bytes] | None:
        """The hashes of the events, if each is the next one of its run and of its batch."""
        kinds, heads, moved = self._kinds, self._heads, undo.moved
        identity, stamp = place.identity, b"\x00"
        hashes: list[bytes] = []
        for index in range(len(wires) - 1):
            wire = wires[index]
            value = wire.value
            head = heads.get(wire.key)
            kind = kinds.get(value[:10]) or kinds.get(value[:5])
            digest = b""
            if head is not None and kind is not None and value.startswith(head.prefix, kind.start):
                seq = head.seq + 1
                at = kind.start + len(head.prefix)
                step = _NUMBERS[seq] if seq < 8192 else number(seq)
                if value.startswith(step + NO_CAUSE, at):
                    at += len(step) + 6
                    # All events of a batch have its moment, as good as always.
                    if not value.startswith(stamp, at):
                        end = at
                        while value[end] > 127:
                            end += 1
                        stamp = value[at : end + 1]
                    if value.startswith(identity + _INDEXES[index] + head.hash, at + len(stamp)):
                        digest = sha256(head.lead + _size(len(value)) + value).digest()
                        moved.append((head, head.seq, head.hash))
                        head.seq, head.hash = seq, digest
                        if kind.ends:
                            self._end(head, wire.key, undo)
            if not digest:
                decoded = self._decoded(wire, index, place, undo)
                if decoded is None:
                    return None
                digest = decoded
            hashes.append(digest)
        return hashes

    def _decoded(self, wire: Wire, index: int, place: _Place, undo: _Undo) -> bytes | None:
        """The hash of an event that had to be decoded; None: it is not what must come."""
        record = self._codec.decode_event(wire.key, wire.value)
        event, position = record.event, place.position
        cause = event.cause
        if isinstance(event.body, CLOSELY) or (event.claim_no, event.batch_no, event.batch_index) != (
            *place.batch,
            index,
        ):
            return None
        if cause.offset >= position.offset and cause.partition == position.partition:
            return None
        if not event.seq:
            return record.hash
        if wire.key != event.workflow_id.encode():
            # Heads are kept by key.
            return None
        head = self._head(event, undo)
        if head is None or (event.seq, event.prev_hash) != (head.seq + 1, head.hash):
            return None
        self._learn(event, head, wire)
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
            _, start = self._codec.split(wire.value)
            self._kinds[wire.value[:start]] = _Kind(start, isinstance(event.body, TERMINAL))

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
