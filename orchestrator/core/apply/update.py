"""How updates change state: a row each, kept as long as its run, for whoever asks for the outcome."""

from __future__ import annotations

from typing import Any

from ..events import UpdateAccepted, UpdateCompleted
from ..rows import UPDATES, RunRow, UpdateRow, update_key
from .fold import Fold

Fields = dict[str, Any]


def update_accepted(fold: Fold, run: RunRow, body: UpdateAccepted) -> Fields:
    event = fold.event
    fold.state.put(UPDATES, update_key(event.workflow_id, event.run_id, body.update), UpdateRow(body.name, "accepted"))
    return {"pending_updates": run.pending_updates + 1}


def update_completed(fold: Fold, run: RunRow, body: UpdateCompleted) -> Fields:
    key = update_key(fold.event.workflow_id, fold.event.run_id, body.update)
    row: UpdateRow = fold.state.get(UPDATES, key)
    state = "completed" if body.failure is None else "failed"
    fold.state.put(UPDATES, key, row._replace(state=state, result=body.result, failure=body.failure))
    return {"pending_updates": run.pending_updates - 1}


def end_all(fold: Fold) -> None:
    """The run closed first: whoever waits for one of its updates gets that for an answer."""
    for key, row in list(fold.state.scan(UPDATES, (fold.event.workflow_id, fold.event.run_id))):
        if row.state == "accepted":
            fold.state.put(UPDATES, key, row._replace(state="closed"))


def forget_all(fold: Fold) -> None:
    """The run is purged."""
    for key, _ in list(fold.state.scan(UPDATES, (fold.event.workflow_id, fold.event.run_id))):
        fold.state.put(UPDATES, key, None)
