"""Heads of an events partition noted outside it: a log that ends before one, or differs from it, was cut or rewritten.

A note is unsigned, beside a group's offset. A signed one is `core.tasks.Anchor`.
"""

from __future__ import annotations

from typing import NamedTuple

from .tasks import Anchor
from .values import BatchId

ANCHOR_TAG = b"orchestrator.anchor.v1"


class Note(NamedTuple):
    """Which footer was the last one proven, and its hash."""

    batch: BatchId
    footer_hash: bytes


def write_note(batch: BatchId, footer_hash: bytes) -> str:
    """The text that stands beside a group's offset."""
    return f"{batch.claim_no}/{batch.batch_no} {footer_hash.hex()}"


def read_note(text: str) -> Note | None:
    """The inverse of `write_note`; None if the text is no such note."""
    try:
        place, footer_hash = text.split()
        claim_no, batch_no = place.split("/")
        return Note(BatchId(int(claim_no), int(batch_no)), bytes.fromhex(footer_hash))
    except ValueError:
        return None


def signed_bytes(anchor: Anchor) -> bytes:
    """What an anchor's signature covers: no Avro is needed to verify it, and no framing changes it."""
    at = Anchor._fields.index("key_id")
    parts = [ANCHOR_TAG]
    for value in anchor[:at]:
        data = value if isinstance(value, bytes) else str(value).encode()
        parts += [len(data).to_bytes(4, "big"), data]
    return b"".join(parts)
