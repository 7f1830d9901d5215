"""An audit in words: the sentence of its verdict, and its findings by offset."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from .audit import Audit, PartitionAudit


def verdict_of(part: PartitionAudit) -> str:
    """How far the partition is proven: "complete up to head H, signed at T", or "prefix only, no anchor"."""
    if part.findings:
        return f"NOT whole: {part.findings} finding{'s' if part.findings > 1 else ''}"
    if part.complete_to is not None:
        batch = part.complete_to.batch
        signed = datetime.fromtimestamp(part.complete_to.signed_at_ms / 1000, UTC).isoformat(timespec="seconds")
        return f"complete up to head {batch.claim_no}/{batch.batch_no}, signed at {signed}"
    return "prefix only, no anchor"


def verdict(audit: Audit) -> str:
    """One sentence for the application."""
    parts = audit.partitions.values()
    found = sum(part.findings for part in parts)
    others = len([finding for finding in audit.findings if finding.kind == "anchor"])
    events, batches = sum(part.events for part in parts), sum(part.batches for part in parts)
    if found:
        return f"NOT whole: {found} findings in {events} events of {batches} batches"
    written = [part for part in parts if part.batches]
    signed = [part for part in written if part.complete_to]
    if signed and len(signed) == len(written):
        how_far = "complete up to every partition's signed head"
    elif signed:
        how_far = (
            f"complete up to a signed head in {len(signed)} partitions, prefix only in {len(written) - len(signed)}"
        )
    else:
        how_far = "prefix only, no anchor"
    if others:
        how_far += f"; {others} anchors are forged or of another log"
    if accepted := sum(len(part.accepted) for part in parts):
        how_far += f"; {accepted} times a person accepted it as it was (see there)"
    return f"whole: {events} events of {batches} batches verify; {how_far}"


def lines(audit: Audit) -> Iterator[str]:
    """A readable report, a line a partition, then the findings."""
    for number in sorted(audit.partitions):
        part = audit.partitions[number]
        head = f"{part.head.claim_no}/{part.head.batch_no}"
        yield (
            f"partition {number}: {part.events} events, {part.batches} batches, {part.claims} claims,"
            f" {part.void_events} void, {part.runs} runs ({part.closed_runs} closed), {part.step_results} step results,"
            f" {part.blobs} blobs,"
            f" head {head} at offset {part.head_offset}, clock skew {part.max_skew_ms} ms, state {part.state}:"
            f" {verdict_of(part)}"
        )
        for accepted in part.accepted:
            yield f"partition {number}: accepted: {accepted}"
    for finding in audit.findings:
        where = f" offset {finding.offset}" if finding.offset >= 0 else ""
        what = f"partition {finding.partition}{where}" if finding.partition >= 0 else "anchors"
        yield f"{what}: {finding.kind}: {finding.detail}"
    if audit.anchors:
        yield audit.anchors
    yield verdict(audit)


def as_json(audit: Audit) -> dict[str, object]:
    """The same for programs."""
    return {
        "ok": audit.ok,
        "verdict": verdict(audit),
        "anchors": audit.anchors,
        "partitions": [
            {
                "partition": number,
                "events": part.events,
                "batches": part.batches,
                "claims": part.claims,
                "void_events": part.void_events,
                "blobs": part.blobs,
                "head": f"{part.head.claim_no}/{part.head.batch_no}",
                "head_offset": part.head_offset,
                "head_hash": part.head_hash.hex(),
                "max_skew_ms": part.max_skew_ms,
                "state": part.state,
                "verdict": verdict_of(part),
                "accepted": part.accepted,
            }
            for number, part in sorted(audit.partitions.items())
        ],
        "findings": [finding._asdict() for finding in audit.findings],
    }
