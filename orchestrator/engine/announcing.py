"""Who is told that a batch was read back: a group offset, the signer of heads, whoever watches, whoever reads logs."""

from __future__ import annotations

import logging

from ..core.events import RunParked, StepParked
from ..core.witness import write_note
from .batch import Batch
from .ownership import Ground
from .shared import Shared
from .turns import RunKey
from .waits import by_hand, on_one_line

log = logging.getLogger(__name__)


def announce(shared: Shared, ground: Ground, batch: Batch) -> None:
    """The state reflects the batch now."""
    at = ground.position()
    assert at is not None
    note = write_note(at.batch, at.footer_hash)
    shared.log.membership().commit_offset(ground.number, at.position.offset, note)
    shared.anchors.proven(ground.number, at)
    shared.options.observer.proven(ground.number, batch.records, batch.commit_s)
    for key, body in batch.parked:
        log.warning("%s", stands_still(key, body))


def stands_still(key: RunKey, body: RunParked | StepParked) -> str:
    """What parked, why, and what to do: whoever looks at an engine's log did not have to ask for that run."""
    if isinstance(body, StepParked):
        why = _quoted(f"{body.failure.type}: {body.failure.message}")
        return f"step {body.step} of {key[0]} is parked: {why}; {by_hand(key[0], body.step)}"
    why = _quoted(body.message)
    return f"{key[0]} is parked ({body.kind}): {why}; after a fix: orchestrator workflow retry {key[0]}"


def _quoted(text: str) -> str:
    return on_one_line(text.rstrip().rstrip("."))
