"""Anchors as an audit takes them: each one's signature, cluster and topic checked before it may witness anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..codec.records import Codec
from ..codec.signing import PublicKeys
from ..core.tasks import Anchor
from ..core.values import BatchId
from ..errors import UndecodableRecord
from ..log.ports import TopicIds, Wire
from .audit import FINDINGS_KEPT, Finding
from .audit_witness import Witness


class Signed(NamedTuple):
    """An anchor's bytes, and where they were found, for people."""

    where: str
    value: bytes


class Anchors(NamedTuple):
    """What the anchors say: witnesses by partition, and what is wrong with anchors themselves.

    `said` is for people: how many were read and believed.
    """

    witnesses: Mapping[int, Sequence[Witness]]
    findings: Sequence[Finding]
    said: str


def from_topic(slices: Iterable[Sequence[Wire]]) -> Iterator[Signed]:
    """The anchors of the anchors topic."""
    for wires in slices:
        for wire in wires:
            yield Signed(f"the anchor at {wire.topic}/{wire.partition} offset {wire.offset}", wire.value)


def from_directory(directory: Path, app: str) -> Iterator[Signed]:
    """The anchors that engines kept as files. Raises OSError for what cannot be read."""
    for place in sorted((directory / app).glob("*/*.anchor")):
        yield Signed(f"the anchor {place}", place.read_bytes())


def read_anchors(found: Iterable[Signed], keys: PublicKeys, codec: Codec, ids: TopicIds) -> Anchors:
    """Check them all. Without any key nothing is believed, and nothing is found.

    An anchor of this cluster that names another topic id still says where the log ended: it is a finding, and an
    unsigned witness.
    """
    witnesses: dict[int, list[Witness]] = {}
    findings: list[Finding] = []
    count = believed = 0
    for signed in found:
        count += 1
        if not len(keys):
            continue
        try:
            anchor = codec.decode(signed.value)
        except UndecodableRecord as error:
            anchor, problem = None, str(error)
        if not isinstance(anchor, Anchor):
            problem = problem if anchor is None else f"a {type(anchor).__name__} where an anchor belongs"
            findings.append(Finding(-1, -1, "anchor", f"{signed.where}: {problem}"))
            continue
        problem = keys.verdict(anchor) or _elsewhere(anchor, ids)
        if problem:
            findings.append(Finding(anchor.partition, -1, "anchor", f"{signed.where}: {problem}"))
        if keys.verdict(anchor) or anchor.cluster_id != ids.cluster_id:
            continue
        believed += not problem
        batch = BatchId(anchor.claim_no, anchor.batch_no)
        at = (0, -1) if problem else (anchor.time_ms, anchor.offset)
        witness = Witness(batch, anchor.footer_hash, signed.where, *at)
        witnesses.setdefault(anchor.partition, []).append(witness)
    return Anchors(witnesses, findings[:FINDINGS_KEPT], _said(count, believed, len(keys)))


def _elsewhere(anchor: Anchor, ids: TopicIds) -> str:
    if anchor.cluster_id != ids.cluster_id:
        return f"signed for cluster {anchor.cluster_id}, this one is {ids.cluster_id}"
    if anchor.topic_id != ids.events:
        return (
            f"signed for events topic {anchor.topic_id}, the topic is now {ids.events}: it was deleted and made again"
        )
    return ""


def _said(count: int, believed: int, keys: int) -> str:
    if count and not keys:
        return f"{count} anchors were not looked at: name the engines' public keys with --anchor-key"
    return f"{believed} of {count} anchors are good" if count else "there are no anchors"
