"""The rule by which every reader of an events partition sees batches: buffered, shown at their footer, void before a
claim.

Published in `schemas/README.md`; the engine's restore, clients, projections and audits all read by it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..errors import LogGap
from .events import DELIVERABLE, BatchFooter, Event, PartitionClaimed, Record
from .levels import beyond
from .values import BatchId

NO_FOOTER = b"\x00" * 32


class Batch(NamedTuple):
    """What became visible: a footer with its records, or a claim (then `footer` is the claim's record).

    `void` counts the records before a claim that no footer covered.
    """

    records: tuple[Record, ...]
    footer: Record
    offset: int
    is_claim: bool
    void: int = 0


def root_of(hashes: Iterable[bytes]) -> bytes:
    """The root that a footer carries: SHA-256 of the ordered event hashes."""
    return hashlib.sha256(b"".join(hashes)).digest()


class BatchAssembler:
    """Feed it an events partition's records in order; it gives the batches. `footer_hash` is the last footer's before
    them.

    With `skip_to_footer` the log's start offset is above 0: everything up to the first footer is skipped, once.
    """

    def __init__(
        self, where: str, footer_hash: bytes = NO_FOOTER, last: BatchId | None = None, *, skip_to_footer: bool = False
    ):
        self.footer_hash = footer_hash
        self.last = last or BatchId(0, 0)
        self.claim_no = self.last.claim_no
        self._where = where
        self._pending: list[Record] = []
        self._skipping = skip_to_footer

    def feed(self, record: Record, offset: int) -> Batch | None:
        """The batch that `record` completes, if any.

        Raises LogGap, naming the offset, at anything that breaks the rule.
        """
        body = record.event.body
        if self._skipping and not isinstance(body, PartitionClaimed):
            # Only a footer ends the gap: the batch before it may be cut, and what it chains to is unknown.
            if isinstance(body, BatchFooter):
                self._skipping = False
                self.footer_hash, self.last = record.hash, BatchId(record.event.claim_no, record.event.batch_no)
                self.claim_no = record.event.claim_no
            return None
        if isinstance(body, PartitionClaimed):
            return self._claim(record, offset)
        if isinstance(body, BatchFooter):
            return self._footer(record, body, offset)
        self._buffer(record.event, offset)
        self._pending.append(record)
        return None

    @property
    def between(self) -> bool:
        """Nothing is buffered: what comes next begins a batch."""
        return not self._pending and not self._skipping

    def passed(self, footer_hash: bytes, batch: BatchId, offset: int) -> None:
        """A reader beside this one checked a batch, whose footer stands at `offset`, and showed it."""
        self.footer_hash, self.last = footer_hash, batch

    def _buffer(self, event: Event, offset: int) -> None:
        if self._pending:
            first = self._pending[0].event
            if (event.claim_no, event.batch_no) != (first.claim_no, first.batch_no):
                raise self._gap(
                    offset, f"batch {first.claim_no}/{first.batch_no} has no footer and no claim follows it"
                )
        if event.batch_index != len(self._pending):
            raise self._gap(offset, f"event {event.batch_index} of its batch where {len(self._pending)} belongs")
        if event.claim_no != self.claim_no:
            raise self._gap(offset, f"an event of claim {event.claim_no} under claim {self.claim_no}")

    def _claim(self, record: Record, offset: int) -> Batch | None:
        void = len(self._pending)
        self._pending = []
        # An equal or lower number loses: its owner sees the earlier one and claims again.
        self.claim_no = max(self.claim_no, record.event.claim_no)
        return Batch((), record, offset, is_claim=True, void=void)

    def _footer(self, record: Record, body: BatchFooter, offset: int) -> Batch:
        event = record.event
        batch = BatchId(event.claim_no, event.batch_no)
        if event.claim_no != self.claim_no:
            raise self._gap(offset, f"a footer of claim {event.claim_no} under claim {self.claim_no}")
        if body.prev_footer_hash != self.footer_hash:
            raise self._gap(
                offset, f"footer {batch.claim_no}/{batch.batch_no} does not follow the last footer {self.last}"
            )
        if batch <= self.last:
            raise self._gap(offset, f"footer {batch} after {self.last}: batch numbers are never reused")
        if self._pending and (of := self._pending[0].event)[6:8] != batch:
            raise self._gap(offset, f"footer {batch} behind events of batch {of.claim_no}/{of.batch_no}")
        if body.event_count != len(self._pending):
            raise self._gap(offset, f"footer {batch} covers {body.event_count} events, {len(self._pending)} are here")
        if body.root != root_of(pending.hash for pending in self._pending):
            raise self._gap(offset, f"the root of footer {batch} is not that of its events")
        if problem := beyond(body.level):
            raise self._gap(offset, problem)
        records, self._pending = tuple(self._pending), []
        self.footer_hash, self.last = record.hash, batch
        return Batch(records, record, offset, is_claim=False)

    def _gap(self, offset: int, what: str) -> LogGap:
        return LogGap(f"{self._where} offset {offset}: {what}")


class AcceptingAssembler(BatchAssembler):
    """A reader that knows of repairs: what breaks the rule is a gap unless a later claim sets it aside.

    While a gap is open nothing is shown; whoever reaches the end of what is visible must look at `gap`.
    """

    def __init__(
        self, where: str, footer_hash: bytes = NO_FOOTER, last: BatchId | None = None, *, shown: int = -1
    ) -> None:
        """`shown`: offset of the last record that was shown before."""
        super().__init__(where, footer_hash, last)
        self.gap: LogGap | None = None
        self.gap_at = -1
        self.shown = shown
        self.aside: set[tuple[str, str]] = set()
        """Runs with events behind the gap, or set aside since this reader began."""

    def feed(self, record: Record, offset: int) -> Batch | None:
        """As before, but a gap is kept in `gap`. Raises LogGap for a higher level, and for what cannot be undone."""
        body = record.event.body
        if isinstance(body, PartitionClaimed):
            self._may_accept(body, offset)
        if self.gap is not None:
            self._skip(record)
            return None
        try:
            batch = super().feed(record, offset)
        except LogGap as error:
            if isinstance(body, BatchFooter) and beyond(body.level):
                raise
            self._open(offset, error)
            self._skip(record)
            return None
        if batch is not None:
            self.shown = offset
        return batch

    @property
    def between(self) -> bool:
        """See BatchAssembler."""
        return super().between and self.gap is None

    def passed(self, footer_hash: bytes, batch: BatchId, offset: int) -> None:
        """See BatchAssembler."""
        super().passed(footer_hash, batch, offset)
        self.shown = offset

    def broken(self, offset: int, what: str) -> None:
        """A record that cannot be read at all."""
        if self.gap is None:
            self._open(offset, self._gap(offset, what))

    def _open(self, offset: int, gap: LogGap) -> None:
        self.gap, self.gap_at = gap, offset
        for pending in self._pending:
            self._skip(pending)
        self._pending = []

    def _skip(self, record: Record) -> None:
        event = record.event
        self.claim_no = max(self.claim_no, event.claim_no)
        if event.seq:
            self.aside.add((event.workflow_id, event.run_id))

    def _may_accept(self, body: PartitionClaimed, offset: int) -> None:
        if body.accepts_from < 0:
            return
        if body.accepts_from <= self.shown:
            raise self._gap(
                offset,
                f"a repair set aside everything from offset {body.accepts_from} on, this state reflects offset"
                f" {self.shown}: delete the state directory, it is folded anew",
            )
        if self.gap is not None and body.accepts_from <= self.gap_at:
            self.gap, self.gap_at = None, -1


PastTurn = tuple[Event, list[Event]]
"""An event that code saw, and the events that its turn issued."""


def turns_of(history: Iterable[Event]) -> Iterator[PastTurn]:
    """What a replay delivers and compares."""
    return (turn for turn in turns_of_pages([history]) if turn is not None)


def turns_of_pages(pages: Iterable[Iterable[Event]]) -> Iterator[PastTurn | None]:
    """The same of a history that is read page by page; None after each page: no turn may be whole for many of them.

    Turns are taken in the order of their deliveries: one is whole when an event of a later turn comes, or the end.
    """
    unseen: deque[Event] = deque()
    issued: list[Event] = []
    for page in pages:
        for event in page:
            turn: int = getattr(event.body, "turn", 0)
            if turn:
                while unseen and unseen[0].seq < turn:
                    yield unseen.popleft(), issued
                    issued = []
                issued.append(event)
            if isinstance(event.body, DELIVERABLE):
                unseen.append(event)
        yield None
    while unseen:
        yield unseen.popleft(), issued
        issued = []
