"""Anchors: a signed head makes a log complete; a cut tail, a rewritten log, a forged or a foreign anchor is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.codec.records import Codec
from orchestrator.codec.signing import PublicKeys, Signer, generate, public_path
from orchestrator.core.tasks import Anchor, Forward
from orchestrator.log.ports import TopicIds, Wire
from orchestrator.projections.anchors import Anchors, Signed, from_directory, from_topic, read_anchors
from orchestrator.projections.audit import Audit, AuditOptions, verify
from orchestrator.projections.audit_report import as_json, lines, verdict
from tests.oracle import logs
from tests.oracle.logs import EventLog, clean, completed
from tests.oracle.raw import RawRecord

CODEC = Codec()
IDS = TopicIds("cluster", "commands-id", "events-id", 1)
SIGNED_AT = 1_700_000_100_000


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """An engine's key; its public half lies in `tmp_path`."""
    generate(tmp_path / "engine.pem")
    return Signer.load(tmp_path / "engine.pem")


@pytest.fixture
def keys(tmp_path: Path, signer: Signer) -> PublicKeys:
    """What the auditor was given."""
    return PublicKeys.load([public_path(tmp_path / "engine.pem")])


def footers(log: EventLog) -> list[RawRecord]:
    return [record for record in log.records if record.key == b"\x00footer"]


def head(log: EventLog, back: int = 1) -> Anchor:
    """The log's last footer, or one before it, not signed yet."""
    footer = footers(log)[-back]
    record = CODEC.decode_event(footer.key, footer.value)
    event = record.event
    return Anchor("cluster", "events-id", 0, footer.offset, event.claim_no, event.batch_no, record.hash, SIGNED_AT)


def told(keys: PublicKeys, *anchors: Anchor) -> Anchors:
    """What an auditor makes of the anchors topic."""
    wires = [Wire("a.anchors", 0, at, 0, b"0", CODEC.encode(anchor)) for at, anchor in enumerate(anchors)]
    return read_anchors(from_topic([wires]), keys, CODEC, IDS)


def audit(records: Sequence[RawRecord], anchors: Anchors) -> Audit:
    """The verdict on one partition, as the command gives it."""
    wires = [Wire(*record) for record in records]
    found = verify({0: [wires]}, CODEC, AuditOptions(witnesses=anchors.witnesses))
    found.findings += anchors.findings
    found.anchors = anchors.said
    return found


def test_a_signed_head_makes_the_log_complete_up_to_it(signer: Signer, keys: PublicKeys) -> None:
    log = clean()
    anchor = signer.sign(head(log, back=2))
    found = audit(log.records, told(keys, signer.sign(head(log, back=3)), anchor))
    assert found.ok
    text = "\n".join(lines(found))
    assert f"complete up to head {anchor.claim_no}/{anchor.batch_no}, signed at 2023-11-14T22:15:00+00:00" in text
    assert "2 of 2 anchors are good" in text
    assert "complete up to every partition's signed head" in verdict(found)


@pytest.mark.parametrize("batches", [1, 3])
def test_a_tail_cut_behind_an_anchor_is_named(signer: Signer, keys: PublicKeys, batches: int) -> None:
    log = clean()
    cut = log.records[: log.records.index(footers(log)[-1 - batches]) + 1]
    assert audit(cut, told(keys)).ok, "without an anchor a cut tail is a valid prefix"
    found = audit(cut, told(keys, signer.sign(head(log))))
    assert [finding.kind for finding in found.findings] == ["witness"]
    assert "its tail was cut" in found.findings[0].detail
    assert "a.anchors/0 offset 0" in found.findings[0].detail
    assert "NOT whole" in verdict(found)


def test_what_follows_the_last_anchor_may_be_cut_unseen(signer: Signer, keys: PublicKeys) -> None:
    log = clean()
    cut = log.records[: log.records.index(footers(log)[-2]) + 1]
    assert audit(cut, told(keys, signer.sign(head(log, back=2)))).ok


def test_a_rewritten_log_with_recomputed_chains_is_named(
    signer: Signer, keys: PublicKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor = signer.sign(head(clean()))
    results = completed(0)["result"]
    monkeypatch.setattr(logs, "completed", lambda n: {**completed(n), "result": {**results, "data": b"another"}})
    other = clean()
    assert audit(other.records, told(keys)).ok, "every chain of the rewritten log verifies"
    found = audit(other.records, told(keys, anchor))
    assert [finding.kind for finding in found.findings] == ["witness"]
    assert "the log was rewritten" in found.findings[0].detail
    assert found.findings[0].offset == anchor.offset


def test_a_head_at_another_offset_is_named(signer: Signer, keys: PublicKeys) -> None:
    log = clean()
    anchor = head(log)
    found = audit(log.records, told(keys, signer.sign(anchor._replace(offset=anchor.offset + 2))))
    assert [finding.kind for finding in found.findings] == ["witness"]
    assert "written again" in found.findings[0].detail


def test_a_forged_anchor_is_named_and_witnesses_nothing(signer: Signer, keys: PublicKeys) -> None:
    log = clean()
    good = signer.sign(head(log))
    forged = good._replace(batch_no=good.batch_no + 100)
    found = audit(log.records, told(keys, good, forged))
    assert [(finding.partition, finding.kind) for finding in found.findings] == [(0, "anchor")]
    assert "a.anchors/0 offset 1: its signature is not key" in found.findings[0].detail
    assert not found.ok
    assert found.partitions[0].complete_to is not None, "the good one still counts"
    assert "1 anchors are forged or of another log" in verdict(found)
    assert as_json(found)["ok"] is False


def test_an_anchor_by_another_key_is_named(keys: PublicKeys, tmp_path: Path) -> None:
    generate(tmp_path / "thief.pem")
    log = clean()
    found = audit(log.records, told(keys, Signer.load(tmp_path / "thief.pem").sign(head(log))))
    assert [finding.kind for finding in found.findings] == ["anchor"]
    assert "not one of those given" in found.findings[0].detail
    assert "prefix only, no anchor" in verdict(found)


def test_an_anchor_of_another_cluster_is_named_and_witnesses_nothing(signer: Signer, keys: PublicKeys) -> None:
    log = clean()
    found = audit(log.records, told(keys, signer.sign(head(log)._replace(cluster_id="elsewhere"))))
    assert [finding.kind for finding in found.findings] == ["anchor"]
    assert "cluster elsewhere, this one is cluster" in found.findings[0].detail
    assert "prefix only" in verdict(found)


def test_an_anchor_of_the_topic_before_still_says_where_the_log_ended(signer: Signer, keys: PublicKeys) -> None:
    log = clean()
    old = signer.sign(head(log)._replace(topic_id="older-id"))
    cut = log.records[: log.records.index(footers(log)[-2]) + 1]
    found = audit(cut, told(keys, old))
    assert sorted(finding.kind for finding in found.findings) == ["anchor", "witness"]
    details = " ".join(finding.detail for finding in found.findings)
    assert "the topic is now events-id: it was deleted and made again" in details
    assert "its tail was cut" in details
    whole = audit(log.records, told(keys, old))
    assert [finding.kind for finding in whole.findings] == ["anchor"]
    assert whole.partitions[0].complete_to is None


def test_what_is_no_anchor_is_named(keys: PublicKeys) -> None:
    signed = [Signed("the first", b"garbage"), Signed("the second", CODEC.encode(Forward(b"x")))]
    found = read_anchors(signed, keys, CODEC, IDS)
    assert [finding.partition for finding in found.findings] == [-1, -1]
    assert "the first: not Avro" in found.findings[0].detail
    assert "the second: a Forward where an anchor belongs" in found.findings[1].detail


def test_without_a_key_nothing_is_believed_and_nothing_found(signer: Signer) -> None:
    log = clean()
    anchors = told(PublicKeys(), signer.sign(head(log)))
    found = audit(log.records, anchors)
    assert found.ok
    assert "prefix only, no anchor" in verdict(found)
    assert "1 anchors were not looked at" in found.anchors
    assert told(PublicKeys()).said == "there are no anchors"


def test_files_are_read_like_the_topic(signer: Signer, keys: PublicKeys, tmp_path: Path) -> None:
    log = clean()
    place = tmp_path / "kept" / "shop" / "0" / "0000000001-0000000001.anchor"
    place.parent.mkdir(parents=True)
    place.write_bytes(CODEC.encode(signer.sign(head(log))))
    found = read_anchors(from_directory(tmp_path / "kept", "shop"), keys, CODEC, IDS)
    assert found.said == "1 of 1 anchors are good"
    assert audit(log.records, found).partitions[0].complete_to is not None
    place.chmod(0o600)
    place.write_bytes(b"")
    assert str(place) in read_anchors(from_directory(tmp_path / "kept", "shop"), keys, CODEC, IDS).findings[0].detail
