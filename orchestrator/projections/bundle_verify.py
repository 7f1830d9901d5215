"""`audit verify --bundle`: a bundle checked offline, with the keys that its reader was given and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..codec.framing import Confluent, SingleObjectToo
from ..codec.records import FOOTER_KEY, Codec
from ..codec.signing import PublicKeys
from ..core.events import TERMINAL, BatchFooter, Event, Record
from ..core.replay import root_of
from ..core.tasks import Anchor
from ..core.values import BatchId
from ..errors import BundleRefused, UndecodableRecord
from ..log.ports import TopicIds, Wire
from .anchors import Anchors, Signed, read_anchors
from .audit import Audit, AuditOptions, Finding, Kind, PartitionAudit, verify
from .audit_laws import Laws
from .audit_witness import Witness
from .bundle import Json, Line, Signature, check_signature, read_lines


@dataclass
class BundleAudit:
    """What a bundle proves. `runs`: of a bundle of runs, each run's events; `audit` has findings as on a cluster."""

    manifest: Json
    signature: Signature
    audit: Audit
    runs: list[Json] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return self.audit.ok


class _Beside(NamedTuple):
    """What a bundle holds beside records: its manifest, heads by partition, anchors, the registry's ids."""

    manifest: Json
    heads: dict[int, Json]
    anchors: list[Signed]
    ids: dict[bytes, int]
    starts: dict[int, int]


def verify_bundle(path: Path, keys: PublicKeys) -> BundleAudit:
    """Check signature, sums, chains, footers, laws and heads.

    Raises BundleRefused, naming the line, for a file that was changed, cut or signed by another key.
    """
    signature = check_signature(path, keys)
    try:
        return _verified(path, keys, signature)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRefused(
            f"{path}: signed, and not as `audit export` writes it ({type(error).__name__}: {error}): another release's?"
        ) from error


def _verified(path: Path, keys: PublicKeys, signature: Signature) -> BundleAudit:
    beside = _beside(path)
    codec = Codec(SingleObjectToo(Confluent(beside.ids)) if beside.ids else None)
    manifest = beside.manifest
    ids = TopicIds(
        str(manifest["cluster_id"]), str(manifest["commands_id"]), str(manifest["events_id"]), len(beside.starts)
    )
    anchors = _anchors(beside, keys, codec, ids)
    if manifest["scope"]["kind"] == "runs":
        made = BundleAudit(manifest, signature, Audit({}, []))
        for number, lines in _by_partition(path, tuple(beside.starts)):
            _Runs(number, codec, anchors.witnesses.get(number, ()), made).read(lines)
    else:
        made = BundleAudit(manifest, signature, _whole_batches(path, beside, codec, anchors))
    made.audit.findings += anchors.findings
    made.audit.anchors = anchors.said
    return made


def _beside(path: Path) -> _Beside:
    found = _Beside({}, {}, [], {}, {})
    for line in read_lines(path):
        content = line.content
        if line.kind == "manifest":
            found.manifest.update(content)
        elif line.kind in ("record", "hash"):
            found.starts.setdefault(int(content["partition"]), int(content["offset"]))
        elif line.kind == "head":
            found.heads[int(content["partition"])] = content
        elif line.kind == "anchor":
            found.anchors.append(Signed(f"{path} line {line.number}", base64.b64decode(content["value"])))
        elif line.kind == "schema" and content["registry_id"] >= 0:
            found.ids[bytes.fromhex(content["fingerprint"])] = int(content["registry_id"])
    return found


def _anchors(beside: _Beside, keys: PublicKeys, codec: Codec, ids: TopicIds) -> Anchors:
    """The signed heads by keys that were given; others are counted, for a bundle's reader may know one key only."""
    known, others = [], 0
    for signed in beside.anchors:
        try:
            anchor = codec.decode(signed.value)
        except UndecodableRecord:
            anchor = None
        if isinstance(anchor, Anchor) and not keys.has(anchor.key_id):
            others += 1
        else:
            known.append(signed)
    found = read_anchors(known, keys, codec, ids)
    return found._replace(said=f"{found.said}; {others} are by keys that were not given") if others else found


def _by_partition(path: Path, numbers: Sequence[int]) -> Iterator[tuple[int, Iterator[Line]]]:
    """The lines of records, partition by partition, as they were written."""
    lines = (line for line in read_lines(path) if line.kind in ("record", "hash"))
    held: list[Line] = []

    def of(number: int) -> Iterator[Line]:
        while True:
            line = held.pop() if held else next(lines, None)
            if line is None:
                return
            if line.content["partition"] != number:
                held.append(line)
                return
            yield line

    for number in numbers:
        mine = of(number)
        yield number, mine
        # A reader that met a break left the rest.
        for _ in mine:
            pass


def _wire(line: Line, topic: str) -> Wire:
    content = line.content
    return Wire(
        topic,
        int(content["partition"]),
        int(content["offset"]),
        int(content["timestamp_ms"]),
        base64.b64decode(content["key"]),
        base64.b64decode(content["value"]),
    )


def _whole_batches(path: Path, beside: _Beside, codec: Codec, anchors: Anchors) -> Audit:
    topic = f"{beside.manifest['app']}.events"
    witnesses = {number: list(found) for number, found in anchors.witnesses.items()}
    whole = Audit({}, [])
    for number, lines in _by_partition(path, tuple(beside.starts)):
        slices = ([_wire(line, topic)] for line in lines)
        first = beside.starts[number]
        options = AuditOptions(starts={number: first} if first else {}, witnesses=witnesses)
        one = verify({number: slices}, codec, options)
        whole.partitions.update(one.partitions)
        whole.findings += one.findings
        part, head = one.partitions[number], beside.heads.get(number, {})
        if not part.findings and head.get("footer_hash") != part.head_hash.hex():
            what = f"the bundle's head is at offset {head.get('head_offset', -1)}, its records end elsewhere"
            whole.findings.append(Finding(number, part.head_offset, "witness", what))
            part.findings += 1
    return whole


class _Runs:
    """One partition of a bundle of runs: roots from records and hashes, both chains, the laws of the runs."""

    def __init__(self, number: int, codec: Codec, witnesses: Sequence[Witness], made: BundleAudit) -> None:
        self.part = PartitionAudit(number)
        self._codec = codec
        self._made = made
        self._witnesses: dict[BatchId, list[Witness]] = {}
        for witness in witnesses:
            self._witnesses.setdefault(witness.batch, []).append(witness)
        self._laws = Laws(self._law, whole=True, full=True)
        self._leaves: list[bytes] = []
        self._last: dict[tuple[str, str], Event] = {}
        made.audit.partitions[number] = self.part

    def read(self, lines: Iterator[Line]) -> None:
        """Every line of the partition."""
        part = self.part
        for line in lines:
            offset = int(line.content["offset"])
            part.first_offset = offset if part.first_offset < 0 else part.first_offset
            part.next_offset = offset + 1
            if line.kind == "hash":
                self._leaves.append(bytes.fromhex(line.content["hash"]))
                continue
            wire = _wire(line, "")
            try:
                record = self._codec.decode_event(wire.key, wire.value)
            except UndecodableRecord as error:
                self._found(offset, "undecodable", f"{error}; nothing behind it was checked")
                return
            if wire.key == FOOTER_KEY and isinstance(record.event.body, BatchFooter):
                self._footer(record, record.event.body, offset)
            else:
                self._leaves.append(record.hash)
                self._laws.event(record, offset)
                if record.event.seq:
                    self._last[record.event.workflow_id, record.event.run_id] = record.event
                part.events += 1
        if self._leaves:
            self._found(part.next_offset - 1, "gap", "events at the end have no footer")
        part.runs, part.closed_runs, part.step_results = self._laws.runs, self._laws.closed, self._laws.results
        for (workflow_id, run_id), event in self._last.items():
            ended = isinstance(event.body, TERMINAL)
            said: dict[str, Any] = {"workflow_id": workflow_id, "run_id": run_id, "events": event.seq}
            said["ends"] = f"with {type(event.body).__name__}" if ended else f"open, after event {event.seq}"
            self._made.runs.append({**said, "partition": part.partition})

    def _footer(self, record: Record, body: BatchFooter, offset: int) -> None:
        part, event = self.part, record.event
        batch = BatchId(event.claim_no, event.batch_no)
        if part.batches and body.prev_footer_hash != part.head_hash:
            self._found(offset, "gap", f"footer {batch.claim_no}/{batch.batch_no} does not follow the one before it")
        if part.batches and batch <= part.head:
            self._found(offset, "gap", f"footer {batch.claim_no}/{batch.batch_no}: batch numbers are never reused")
        if self._leaves and (body.event_count, body.root) != (len(self._leaves), root_of(self._leaves)):
            self._found(
                offset, "gap", f"the root of footer {batch.claim_no}/{batch.batch_no} is not that of its events"
            )
        self._leaves = []
        part.batches += 1
        part.head, part.head_offset, part.head_hash = batch, offset, record.hash
        for witness in self._witnesses.get(batch, ()):
            if (witness.footer_hash, witness.offset) != (record.hash, offset):
                self._found(offset, "witness", f"{witness.source} noted another footer: the log was rewritten")
            else:
                part.complete_to = witness

    def _found(self, offset: int, kind: Kind, detail: str) -> None:
        self.part.findings += 1
        self._made.audit.findings.append(Finding(self.part.partition, offset, kind, detail))

    def _law(self, offset: int, chain: bool, detail: str) -> None:
        self._found(offset, "chain" if chain else "law", detail)
