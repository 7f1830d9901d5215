"""`audit verify --bundle`: a bundle checked offline, with the keys that its reader was given and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ..codec.framing import Confluent, SingleObjectToo
from ..codec.records import FOOTER_KEY, Codec
from ..codec.signing import PublicKeys
from ..core.events import TERMINAL, BatchFooter, Event, Record
from ..core.replay import root_of
from ..core.tasks import Anchor
from ..core.values import BatchId, BlobRef
from ..errors import BlobAltered, BlobMissing, BlobsUnavailable, BundleRefused, UndecodableRecord
from ..log.ports import TopicIds, Wire
from ..store.blobs import Blobs
from .anchors import Anchors, Signed, read_anchors
from .audit import Audit, AuditOptions, Finding, Kind, PartitionAudit, verify
from .audit_blobs import looked_at
from .audit_laws import Laws
from .audit_witness import Witness
from .bundle import ANCHORS, Json, Opened, Signature, blob_name, open_bundle, records_name


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


def verify_bundle(path: Path, keys: PublicKeys) -> BundleAudit:
    """Check signature, files, chains, footers, laws, blobs and heads.

    Raises BundleRefused, naming the file, for a bundle that was changed, cut or signed by another key.
    """
    bundle = open_bundle(path, keys)
    try:
        return _verified(bundle, keys)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRefused(
            f"{path}: signed, and not as `audit export` writes it ({type(error).__name__}: {error}): another release's?"
        ) from error


def _verified(bundle: Opened, keys: PublicKeys) -> BundleAudit:
    manifest = bundle.manifest
    registered = {bytes.fromhex(found): int(number) for number, found in manifest["registry_ids"].items()}
    codec = Codec(SingleObjectToo(Confluent(registered)) if registered else None)
    numbers = [int(number) for number in manifest["partitions"]]
    ids = TopicIds(str(manifest["cluster_id"]), str(manifest["commands_id"]), str(manifest["events_id"]), len(numbers))
    anchors = _anchors(bundle, keys, codec, ids)
    made = BundleAudit(manifest, bundle.signature, Audit({}, []))
    blobs = BundleBlobs(bundle) if manifest["blobs"] == "included" else None
    for number in numbers:
        if manifest["scope"]["kind"] == "runs":
            runs = _Runs(number, codec, anchors.witnesses.get(number, ()), made, blobs)
            runs.read(bundle.rows(records_name(number)))
        else:
            _whole_batches(bundle, number, AuditOptions(witnesses=anchors.witnesses, blobs=blobs), codec, made.audit)
        _ends(manifest["heads"][str(number)], made.audit, number)
    made.audit.findings += anchors.findings
    made.audit.anchors = anchors.said
    return made


class BundleBlobs:
    """The large values in a bundle. Their names are keyed, and the key is not in it: the manifest has their hashes."""

    def __init__(self, bundle: Opened) -> None:
        self._bundle = bundle

    def put(self, data: bytes) -> BlobRef:
        """Nothing is put into a bundle."""
        raise BlobsUnavailable(f"{self._bundle.path} is a bundle: nothing can be put into it ({len(data)} bytes)")

    def get(self, ref: BlobRef) -> bytes:
        """See Blobs."""
        name = blob_name(ref.name)
        if name not in self._bundle.manifest["files"]:
            raise BlobMissing(f"blob {ref.name} ({ref.size:,} bytes) is not in the bundle")
        data = self._bundle.file(name)
        if len(data) != ref.size:
            raise BlobAltered(f"blob {ref.name}: {len(data):,} bytes in the bundle, the event names {ref.size:,}")
        return data


def _anchors(bundle: Opened, keys: PublicKeys, codec: Codec, ids: TopicIds) -> Anchors:
    """The signed heads by keys that were given; others are counted, for a bundle's reader may know one key only."""
    known, others = [], 0
    for at, row in enumerate(bundle.rows(ANCHORS), 1):
        signed = Signed(f"{bundle.path} {ANCHORS} line {at}", base64.b64decode(row["value"]))
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


def _wire(row: Json, topic: str, partition: int) -> Wire:
    headers = tuple((str(name), base64.b64decode(value)) for name, value in row["headers"])
    key, value = base64.b64decode(row["key"]), base64.b64decode(row["value"])
    return Wire(topic, partition, int(row["offset"]), int(row["timestamp_ms"]), key, value, headers)


def _whole_batches(bundle: Opened, number: int, options: AuditOptions, codec: Codec, whole: Audit) -> None:
    topic = f"{bundle.manifest['app']}.events"
    rows = bundle.rows(records_name(number))
    wires = (_wire(row, topic, number) for row in rows)
    first = next(wires)
    options = replace(options, starts={number: first.offset} if first.offset else {})
    one = verify({number: ([wire] for wire in chain((first,), wires))}, codec, options)
    whole.partitions.update(one.partitions)
    whole.findings += one.findings


def _ends(told: Json, audit: Audit, number: int) -> None:
    """The manifest says where the records end."""
    part = audit.partitions[number]
    if not part.findings and (told["head_offset"], told["footer_hash"]) != (part.head_offset, part.head_hash.hex()):
        what = f"the bundle's head is at offset {told['head_offset']}, its records end elsewhere"
        audit.findings.append(Finding(number, part.head_offset, "witness", what))
        part.findings += 1


class _Runs:
    """One partition of a bundle of runs: roots from records and hashes, both chains, the laws of the runs."""

    def __init__(
        self, number: int, codec: Codec, witnesses: Sequence[Witness], made: BundleAudit, blobs: Blobs | None
    ) -> None:
        self.part = PartitionAudit(number)
        self._codec = codec
        self._made = made
        self._blobs = blobs
        self._witnesses: dict[BatchId, list[Witness]] = {}
        for witness in witnesses:
            self._witnesses.setdefault(witness.batch, []).append(witness)
        self._laws = Laws(self._law, whole=True, full=True)
        self._leaves: list[bytes] = []
        self._last: dict[tuple[str, str], Event] = {}
        made.audit.partitions[number] = self.part

    def read(self, rows: Iterator[Json]) -> None:
        """Every line of the partition."""
        part = self.part
        for row in rows:
            offset = int(row["offset"])
            part.first_offset = offset if part.first_offset < 0 else part.first_offset
            part.next_offset = offset + 1
            if "hash" in row:
                self._leaves.append(bytes.fromhex(row["hash"]))
                continue
            wire = _wire(row, "", part.partition)
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
                self._check_blob(record.event, offset)
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

    def _check_blob(self, event: Event, offset: int) -> None:
        if self._blobs is None:
            return
        counted, problems = looked_at(event, self._blobs)
        self.part.blobs += counted
        for problem in problems:
            self._found(offset, "blob", problem)

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
