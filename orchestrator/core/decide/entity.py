"""Calls of entities: each is a run; one at a time has its turn, the others wait in the order in which they came."""

from __future__ import annotations

from ..commands import FireTimer
from ..events import EntityAdmitted, RunStarted
from ..rows import ENTITIES, EntityRow, entity_key
from .decision import Context, Draft, View, current_run


def call(view: View, started: Draft) -> list[Draft]:
    """A call: it lines up, and if nobody is before it its turn comes at once."""
    assert isinstance(started.body, RunStarted)
    queued = started._replace(body=started.body._replace(queued=True))
    row: EntityRow = view.get(ENTITIES, entity_key(started.workflow_id)) or EntityRow()
    if row.running or row.waiting:
        return [queued]
    return [queued, Draft(started.workflow_id, started.run_id, EntityAdmitted(row.state))]


def admit(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """The call before it has ended."""
    _, run = current_run(view, workflow_id, run_id)
    row: EntityRow | None = view.get(ENTITIES, entity_key(workflow_id))
    if run is None or run.status != "queued" or row is None or row.running:
        return []
    return [Draft(workflow_id, run_id, EntityAdmitted(row.state))]
