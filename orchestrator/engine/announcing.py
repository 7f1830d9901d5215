"""Who is told that a batch was read back: a group offset, the signer of heads, whoever watches."""

from __future__ import annotations

from ..core.witness import write_note
from .batch import Batch
from .ownership import Ground
from .shared import Shared


def announce(shared: Shared, ground: Ground, batch: Batch) -> None:
    """The state reflects the batch now."""
    at = ground.position()
    assert at is not None
    note = write_note(at.batch, at.footer_hash)
    shared.log.membership().commit_offset(ground.number, at.position.offset, note)
    shared.anchors.proven(ground.number, at)
    shared.options.observer.proven(ground.number, batch.records, batch.commit_s)
