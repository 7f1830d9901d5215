"""Who is told that a batch was read back: a group offset, the signer of heads, whoever watches, whoever reads logs."""

from __future__ import annotations

import logging

from ..core.events import RunParked, StepParked
from ..core.witness import write_note
from .batch import Batch
from .ownership import Ground
from .shared import Shared
from .turns import RunKey
from .waits import MAX_MESSAGE

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
        why = _short(f"{body.failure.type}: {body.failure.message}")
        by_hand = f"orchestrator step complete|fail|retry {key[0]} {body.step}"
        return f"step {body.step} of {key[0]} is parked: {why}; end it or let it go on: {by_hand}"
    return (
        f"{key[0]} is parked ({body.kind}): {_short(body.message)}; after a fix: orchestrator workflow retry {key[0]}"
    )


def _short(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"
