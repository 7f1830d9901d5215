"""`audit verify`: both chains, footers, witnesses, laws of histories and state, recomputed from an events topic.

Memory is bounded by what is open: a head for each open run, its pending steps and timers. A closed run leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..codec.records import CLAIM_KEY, FOOTER_KEY, Codec
from ..core.apply.fold import Settings
from ..core.events import BatchFooter, Event, InputLost, LogAccepted, PartitionClaimed, Record, TopicsAdopted
from ..core.replay import NO_FOOTER, AcceptingAssembler, Batch
from ..core.values import BatchId
from ..errors import LogGap, OrchestratorError, UndecodableRecord
from ..log.ports import Wire
from ..store.blobs import Blobs
from ..store.memory_store import MemoryStore
from ..store.rows import Store
from .acceptances import accepted_words
from .audit_blobs import looked_at
from .audit_chain import ChainReader, Footed
from .audit_clock import Clocks
from .audit_laws import Laws
from .audit_witness import Witness, Witnesses
from .folding import StateFold

FINDINGS_KEPT = 200
PROGRESS_EVERY = 10_000
WAITING_KEPT = 20_000
"""Records without a footer that are held before they are looked at one by one."""
NO_BATCH = BatchId(0, 0)

Kind = Literal["undecodable", "gap", "chain", "law", "clock", "witness", "anchor", "state", "blob"]


class Finding(NamedTuple):
    """Something that must not be, and where: `offset` is the record's, or -1 for the partition as a whole.

    Kind "anchor" is about an anchor, not about the log: `partition` is the one that it names, -1 if it names none.
    """

    partition: int
    offset: int
    kind: Kind
    detail: str


class Progress(NamedTuple):
    """How far a partition was read."""

    partition: int
    offset: int
    records: int


@dataclass(frozen=True)
class AuditOptions:
    """What to check beside the log itself.

    `starts` gives the offset at which a partition's range begins, when it is not the log's start at 0. `level` "chain"
    checks hashes, chains and footers, "full" the laws of histories too. `state_hash(p)` gives the hash of partition p's
    state directory (None: there is none): state is then folded from the log's start into `scratch(p)` and compared; no
    engine may be writing meanwhile. `settings` must be the engine's. `blobs`: where the values lie that events name;
    None, or level "chain": they are not looked at. `max_skew_ms`: how far the engines' clock may be from the broker's;
    0 judges neither that nor anything else about clocks.
    """

    level: Literal["chain", "full"] = "full"
    starts: Mapping[int, int] = field(default_factory=dict)
    witnesses: Mapping[int, Sequence[Witness]] = field(default_factory=dict)
    state_hash: Callable[[int], bytes | None] | None = None
    scratch: Callable[[int], Store] | None = None
    settings: Settings | None = None
    blobs: Blobs | None = None
    max_skew_ms: int = 0
    progress: Callable[[Progress], None] | None = None


@dataclass
class PartitionAudit:
    """One partition's counts. `next_offset` is the offset behind the last record read; times in milliseconds."""

    partition: int
    first_offset: int = -1
    next_offset: int = 0
    records: int = 0
    events: int = 0
    batches: int = 0
    claims: int = 0
    void_events: int = 0
    runs: int = 0
    closed_runs: int = 0
    step_results: int = 0
    blobs: int = 0
    max_skew_ms: int = 0
    head: BatchId = NO_BATCH
    head_offset: int = -1
    head_hash: bytes = NO_FOOTER
    complete_to: Witness | None = None
    state: Literal["not compared", "equal", "different"] = "not compared"
    findings: int = 0
    accepted: list[str] = field(default_factory=list)
    """What a person accepted, by whom and why: it is recorded, and no finding any more."""


@dataclass
class Audit:
    """The result. `findings` keeps the first ones of every partition; the counts are whole.

    `anchors` says in words which anchors were read, if a caller read any.
    """

    partitions: dict[int, PartitionAudit]
    findings: list[Finding]
    anchors: str = ""

    @property
    def ok(self) -> bool:
        """Nothing was found, neither on the log nor among the anchors."""
        return not self.findings


class StateNotComparable(OrchestratorError):
    """The state cannot be rebuilt: the log's start is gone, or the settings of the fold were not given."""


def verify(partitions: Mapping[int, Iterable[Sequence[Wire]]], codec: Codec, options: AuditOptions) -> Audit:
    """Audit slices of raw records, read committed and in order, partition by partition.

    A partition is read until its end or the first record behind which nothing can be told (a gap, undecodable bytes).
    """
    audit = Audit({}, [])
    for number, slices in partitions.items():
        reader = _PartitionAudit(number, codec, options, audit)
        reader.read(slices)
        audit.partitions[number] = reader.part
    return audit


class _PartitionAudit:
    """Reads one partition. Positions are tracked by offset so that findings name them."""

    def __init__(self, number: int, codec: Codec, options: AuditOptions, audit: Audit) -> None:
        self.part = PartitionAudit(number)
        self._codec = codec
        self._options = options
        self._audit = audit
        self._assembler: AcceptingAssembler | None = None
        self._offsets: list[int] = []
        self._broken: tuple[Kind, str] | None = None
        self._forgiven = 0
        """Claims below this number were made before the last repair."""
        self._accepted_from = 0
        """Offset of the last record by which a person took the log over as it is."""
        # The first record seen says nothing: aborted ones may lie before it.
        self._start = options.starts.get(number, 0)
        self._laws = Laws(self._law, whole=self._start == 0, full=options.level == "full")
        self._witnesses = Witnesses(options.witnesses.get(number, ()))
        self._clocks = Clocks(options.max_skew_ms)
        self._whole: ChainReader | None = None
        if options.state_hash is None:
            self._whole = ChainReader(codec, self._laws, events=options.level == "full")
        self._waiting: list[Wire] = []
        """Unless state is folded: what came behind the last footer or claim."""
        self._fold: StateFold | None = None
        self._expected_state: bytes | None = None

    def read(self, slices: Iterable[Sequence[Wire]]) -> None:
        """Everything there is."""
        take = self._some if self._whole is None else self._gather
        try:
            for wires in slices:
                take(wires)
            self._closely()
        except (LogGap, UndecodableRecord) as error:
            kind: Kind = "gap" if isinstance(error, LogGap) else "undecodable"
            self._found(self.part.next_offset, kind, f"{error}; nothing behind it was checked")
        else:
            if self._broken is None or self._assembler is None:
                self._end()
            else:
                kind, what = self._broken
                self._found(self._assembler.gap_at, kind, f"{what}; nothing behind it was checked")
        for offset, what in self._clocks.end(self._accepted_from):
            self._found(offset, "clock", what)
        self.part.max_skew_ms = self._clocks.max_skew_ms

    def _some(self, wires: Sequence[Wire]) -> None:
        for wire in wires:
            self._one(wire)

    def _gather(self, wires: Sequence[Wire]) -> None:
        """Batches are checked as a whole once their footers are there."""
        waiting = self._waiting
        for wire in wires:
            waiting.append(wire)
            key = wire.key
            if key == FOOTER_KEY:
                self._wholly(wire)
            elif key == CLAIM_KEY or len(waiting) > WAITING_KEPT:
                self._closely()

    def _wholly(self, footer: Wire) -> None:
        assembler, found = self._assembler, None
        if self._whole is not None and assembler is not None and assembler.between:
            found = self._whole.batch(self._waiting, assembler)
        if found is None:
            self._closely()
            return
        self.part.next_offset = footer.offset + 1
        self._told(len(self._waiting), footer.offset)
        if found.events:
            self._lived(found)
        self._footed(found, footer, len(self._waiting) - 1)
        self._waiting.clear()

    def _lived(self, found: Footed) -> None:
        """At level full: the events of a batch that was checked as a whole."""
        for (event, head), wire in zip(found.events, self._waiting, strict=False):
            self._laws.lived(event, head, wire.offset)
            self._check_blob(event, wire.offset)
        if self._options.max_skew_ms:
            offsets = [wire.offset for wire in self._waiting[:-1]]
            self._clocks.events([event for event, _ in found.events], offsets, found.recorded_ms)

    def _closely(self) -> None:
        """Decode what waits: it is no simple batch, or something is wrong with it."""
        waiting = self._waiting[:]
        self._waiting.clear()
        for wire in waiting:
            self._one(wire)
        if self._whole is not None:
            self._whole.forget()

    def _found(self, offset: int, kind: Kind, detail: str) -> None:
        self.part.findings += 1
        if self.part.findings <= FINDINGS_KEPT:
            self._audit.findings.append(Finding(self.part.partition, offset, kind, detail))

    def _law(self, offset: int, chain: bool, detail: str) -> None:
        self._found(offset, "chain" if chain else "law", detail)

    def _begin(self, wire: Wire, record: Record) -> None:
        """The assembler for what follows; a range in the middle begins behind its first footer."""
        part, where = self.part, f"{wire.topic}/{self.part.partition}"
        if part.first_offset < 0:
            part.first_offset = wire.offset
        event = record.event
        if self._start == 0:
            self._assembler = AcceptingAssembler(where)
        elif isinstance(event.body, BatchFooter):
            self._assembler = AcceptingAssembler(where, record.hash, BatchId(event.claim_no, event.batch_no))
        hook = self._options.state_hash
        self._expected_state = hook(part.partition) if hook else None
        if self._expected_state is not None:
            if self._start or self._options.settings is None:
                raise StateNotComparable(
                    f"{wire.topic}/{part.partition}: state can be rebuilt only from the log's start (this range"
                    f" starts at {self._start}) and with the application's settings; leave the state comparison out"
                )
            scratch = self._options.scratch
            store = scratch(part.partition) if scratch else MemoryStore(self._codec)
            self._fold = StateFold(store, self._options.settings)

    def _one(self, wire: Wire) -> None:
        part = self.part
        part.next_offset = wire.offset
        try:
            record = self._codec.decode_event(wire.key, wire.value)
        except UndecodableRecord as error:
            if self._assembler is None:
                raise
            self._assembler.broken(wire.offset, str(error))
            self._broken = self._broken or ("undecodable", str(error))
            return
        if self._assembler is None:
            self._begin(wire, record)
            if self._start or self._assembler is None:
                part.next_offset = wire.offset + 1
                return
        try:
            batch = self._assembler.feed(record, wire.offset)
        except LogGap as error:
            raise self._located(error) from None
        if self._assembler.gap is not None:
            self._broken = self._broken or ("gap", str(self._located(self._assembler.gap)))
            return
        self._broken = None
        part.next_offset = wire.offset + 1
        if batch is None:
            self._offsets.append(wire.offset)
        else:
            self._batch(batch, wire)
            self._offsets.clear()
        self._told(1, wire.offset)

    def _told(self, records: int, offset: int) -> None:
        part = self.part
        before, part.records = part.records, part.records + records
        if self._options.progress and before // PROGRESS_EVERY < part.records // PROGRESS_EVERY:
            self._options.progress(Progress(part.partition, offset, part.records))

    def _located(self, error: LogGap) -> LogGap:
        """A root covers its whole batch: say which offsets that is."""
        if not self._offsets:
            return error
        return LogGap(f"{error} (the batch is offsets {self._offsets[0]} to {self._offsets[-1]})")

    def _batch(self, batch: Batch, wire: Wire) -> None:
        part = self.part
        if batch.is_claim:
            part.claims += 1
            part.void_events += batch.void
            assert isinstance(batch.footer.event.body, PartitionClaimed)
            if self._fold is not None:
                self._fold.claim(batch)
            return
        for record, offset in zip(batch.records, self._offsets, strict=True):
            self._laws.event(record, offset)
            self._note_accepted(record, offset)
            self._check_blob(record.event, offset)
        self._laws.footer(batch.footer, wire.offset)
        if self._options.max_skew_ms:
            self._clocks.events(
                [record.event for record in batch.records], self._offsets, batch.footer.event.recorded_at_ms
            )
        if part.findings:
            # A broken history cannot be folded; what is broken was said.
            self._fold = None
        if self._fold is not None:
            self._fold.batch(batch, wire.offset)
        event = batch.footer.event
        place = Footed(BatchId(event.claim_no, event.batch_no), batch.footer.hash, event.recorded_at_ms)
        self._footed(place, wire, len(batch.records))
        if self._whole is not None:
            assert isinstance(event.body, BatchFooter)
            self._whole.learn(wire, event.body)

    def _footed(self, found: Footed, wire: Wire, events: int) -> None:
        part = self.part
        self._clocks.footer(found.recorded_ms, wire.timestamp_ms, wire.offset)
        part.batches += 1
        part.events += events
        part.head, part.head_offset, part.head_hash = found.batch, wire.offset, found.hash
        signed = self._witnesses.footer(part.head, part.head_hash, wire.offset)
        part.complete_to = signed or part.complete_to

    def _check_blob(self, event: Event, offset: int) -> None:
        if self._options.blobs is None or self._options.level == "chain":
            return
        counted, problems = looked_at(event, self._options.blobs)
        self.part.blobs += counted
        for problem in problems:
            self._found(offset, "blob", problem)

    def _note_accepted(self, record: Record, offset: int) -> None:
        body = record.event.body
        if isinstance(body, LogAccepted):
            self._forgiven = record.event.claim_no
        if isinstance(body, LogAccepted | TopicsAdopted):
            self._accepted_from = offset
        if isinstance(body, LogAccepted | TopicsAdopted | InputLost):
            self.part.accepted.append(accepted_words(body, offset))

    def _end(self) -> None:
        part = self.part
        if self._offsets:
            what = f"{len(self._offsets)} events at the end have no footer: void only if a claim follows"
            self._found(self._offsets[0], "gap", what)
        for offset, detail in self._witnesses.end(part.head, part.next_offset, self._laws.whole, self._forgiven):
            self._found(offset, "witness", detail)
        part.runs, part.closed_runs, part.step_results = self._laws.runs, self._laws.closed, self._laws.results
        if self._fold is not None:
            same = self._fold.hash() == self._expected_state
            part.state = "equal" if same else "different"
            if not same:
                self._found(-1, "state", "the state directory differs from the state folded from the log (I3)")
