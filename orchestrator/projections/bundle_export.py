"""What goes into a bundle: whole batches, or a workflow's runs with their neighbours' hashes only."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..codec import schemas
from ..codec.framing import CONFLUENT_MAGIC, SINGLE_OBJECT
from ..codec.records import FOOTER_KEY, Codec
from ..core.events import BatchFooter, Record
from ..core.large import named
from ..core.replay import AcceptingAssembler
from ..core.tasks import Anchor
from ..core.values import BlobRef
from ..errors import BlobError, LogGap, UndecodableRecord
from ..log.ports import Wire
from ..store.blobs import Blobs
from .bundle import ANCHORS, BundleWriter, Json, blob_name, records_name

Slices = Iterable[Sequence[Wire]]


class Range(NamedTuple):
    """Batches whose footer lies in these offsets and whose clock in these times; -1: open."""

    from_offset: int = -1
    to_offset: int = -1
    since_ms: int = -1
    until_ms: int = -1

    def is_before(self, offset: int, now_ms: int) -> bool:
        """Whether a footer comes before the range."""
        return offset < self.from_offset or now_ms < self.since_ms

    def is_behind(self, offset: int, now_ms: int) -> bool:
        """Whether a footer comes behind the range."""
        return 0 <= self.to_offset < offset or 0 <= self.until_ms < now_ms


class Runs(NamedTuple):
    """The runs of a workflow; one of them if `run_id` is given."""

    workflow_id: str
    run_id: str = ""

    def has(self, workflow_id: str, run_id: str) -> bool:
        """Whether an event of this run is wanted."""
        return workflow_id == self.workflow_id and self.run_id in ("", run_id)


@dataclass
class Exported:
    """What was written of one partition; its head is the last footer written."""

    partition: int
    records: int = 0
    hashes: int = 0
    first_offset: int = -1
    head_offset: int = -1
    footers: dict[int, str] = field(default_factory=dict)
    """Hash by offset, of footers."""


class Exporter:
    """Writes the partitions of one bundle, in ascending order, and then what belongs to them."""

    def __init__(self, writer: BundleWriter, codec: Codec) -> None:
        self._writer = writer
        self._codec = codec
        self._used: dict[bytes, int] = {}
        self._blobs: dict[str, BlobRef] = {}
        self.absent: list[str] = []
        """Blobs that could not be had."""
        self.left_out = True
        """Whether blobs were not even looked for."""
        self.partitions: dict[int, Exported] = {}

    def batches(self, number: int, slices: Slices, chosen: Range) -> Exported:
        """Whole batches, raw; before them the footer that they chain to, unless they begin the log."""
        made = self._begin(number)
        waiting: list[Wire] = []
        for wire in (wire for wires in slices for wire in wires):
            waiting.append(wire)
            if wire.key != FOOTER_KEY:
                continue
            record = self._codec.decode_event(wire.key, wire.value)
            body = record.event.body
            assert isinstance(body, BatchFooter)
            if chosen.is_behind(wire.offset, body.now_ms):
                break
            if chosen.is_before(wire.offset, body.now_ms):
                waiting = [wire]
                continue
            for one in waiting:
                self._record(made, one, self._decoded(one))
            self._footer(made, record, wire.offset)
            waiting = []
        return made

    def runs(self, number: int, slices: Slices, chosen: Runs) -> Exported:
        """The runs' events, raw; of a batch's other events the hashes; every footer from the first to the last batch.

        Raises LogGap, UndecodableRecord: the log itself is broken before its end.
        """
        made = self._begin(number)
        footers: list[tuple[Wire, Record]] = []
        for wires, records, footer in self._whole_batches(number, slices):
            footers.append((wires[-1], footer))
            mine = [chosen.has(record.event.workflow_id, record.event.run_id) for record in records]
            if not any(mine):
                if not made.records:
                    footers.clear()
                continue
            for wire, between in footers[:-1]:
                self._record(made, wire, between)
                self._footer(made, between, wire.offset)
            footers.clear()
            for wire, record, wanted in zip(wires, records, mine, strict=False):
                if wanted:
                    self._record(made, wire, record)
                else:
                    self._writer.row({"offset": wire.offset, "hash": record.hash.hex()})
                    made.hashes += 1
            self._record(made, wires[-1], footer)
            self._footer(made, footer, wires[-1].offset)
        return made

    def _begin(self, number: int) -> Exported:
        self._writer.begin(records_name(number))
        made = self.partitions[number] = Exported(number)
        return made

    def _whole_batches(self, number: int, slices: Slices) -> Iterator[tuple[list[Wire], tuple[Record, ...], Record]]:
        """Each batch's records on the wire (its footer last), decoded, and the footer; void ones are left out."""
        assembler, waiting = AcceptingAssembler(f"partition {number}"), list[Wire]()
        for wire in (wire for wires in slices for wire in wires):
            try:
                batch = assembler.feed(self._codec.decode_event(wire.key, wire.value), wire.offset)
            except UndecodableRecord as error:
                assembler.broken(wire.offset, str(error))
                batch = None
            if assembler.gap is not None or (batch is not None and batch.is_claim):
                waiting = []
                continue
            waiting.append(wire)
            if batch is not None:
                yield waiting, batch.records, batch.footer
                waiting = []
        if assembler.gap is not None:
            raise LogGap(f"{assembler.gap}: see `orchestrator audit verify`; a range can be exported as it is")

    def anchors(self, found: Iterable[bytes]) -> int:
        """The signed heads that name a footer of this bundle; how many."""
        count = 0
        self._writer.begin(ANCHORS)
        for value in found:
            try:
                anchor = self._codec.decode(value)
            except UndecodableRecord:
                # Not a head of anything: `audit verify` on the cluster names it.
                continue
            made = self.partitions.get(anchor.partition) if isinstance(anchor, Anchor) else None
            if made is not None and anchor.offset in made.footers:
                self._used.setdefault(self._codec.split(value)[0], -1)
                self._writer.row({"value": _text(value)})
                count += 1
        return count

    def blobs(self, blobs: Blobs) -> int:
        """The large values that the records name; how many there are. One that cannot be had is named in the manifest.

        Only what is in full in the bundle counts: of other runs there is nothing.
        """
        self.left_out = False
        for name, ref in self._blobs.items():
            try:
                self._writer.file(blob_name(name), blobs.get(ref))
            except BlobError:
                self.absent.append(name)
        return len(self._blobs) - len(self.absent)

    def schemas(self) -> Json:
        """The schemas that the records were written with, for readers without this release; what the manifest says of
        them.
        """
        names, ids = dict[str, str](), dict[str, str]()
        for schema in schemas.all_schemas():
            if schema.fingerprint in self._used:
                name = f"schemas/{schema.kind}/{schema.path.name}"
                self._writer.file(name, schema.path.read_bytes())
                names[schema.fingerprint.hex()] = name
                if self._used[schema.fingerprint] >= 0:
                    ids[str(self._used[schema.fingerprint])] = schema.fingerprint.hex()
        return {"schemas": names, "registry_ids": ids}

    def heads(self) -> Json:
        """What the manifest says of the partitions: which, and where the records of each begin and end."""
        made = [one for one in self.partitions.values() if one.head_offset >= 0]
        heads = {
            str(one.partition): {
                "first_offset": one.first_offset,
                "head_offset": one.head_offset,
                "footer_hash": one.footers[one.head_offset],
            }
            for one in made
        }
        return {"partitions": [one.partition for one in made], "heads": heads}

    def _record(self, made: Exported, wire: Wire, record: Record | None) -> None:
        if made.first_offset < 0:
            made.first_offset = wire.offset
        self._writer.row(
            {
                "offset": wire.offset,
                "timestamp_ms": wire.timestamp_ms,
                "recorded_at_ms": record.event.recorded_at_ms if record is not None else None,
                "headers": [[name, _text(value)] for name, value in wire.headers],
                "key": _text(wire.key),
                "value": _text(wire.value),
            }
        )
        made.records += 1
        for _, ref in named(record.event.body) if record is not None else ():
            self._blobs[ref.name] = ref
        value = wire.value
        if value[:2] == SINGLE_OBJECT:
            self._used.setdefault(value[2:10], -1)
        elif value[:1] == CONFLUENT_MAGIC:
            fingerprint, start = self._codec.framing.split(value)
            self._used[fingerprint] = int.from_bytes(value[1:start], "big")

    def _decoded(self, wire: Wire) -> Record | None:
        """None: no schema fits. A repair behind it may have set it aside, and it is exported as it is."""
        try:
            return self._codec.decode_event(wire.key, wire.value)
        except UndecodableRecord:
            return None

    def _footer(self, made: Exported, footer: Record, offset: int) -> None:
        made.head_offset = offset
        made.footers[offset] = footer.hash.hex()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
