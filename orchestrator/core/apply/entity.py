"""Entities: the state of a key, and its calls, of which one has its turn while the others wait in their order."""

from __future__ import annotations

from typing import Any

from ..events import EntityAdmitted, EntityChanged
from ..rows import (
    ENTITIES,
    TIMERS,
    EntityCallRow,
    EntityRow,
    RunRow,
    TimerDueRow,
    TimerRow,
    entity_call_key,
    entity_key,
    timer_due_key,
    timer_key,
)
from .fold import Fold

Fields = dict[str, Any]
TIMER = "admit"


def enter(fold: Fold) -> int:
    """A call lines up; its number."""
    event = fold.event
    row = _row(fold)
    call = row.calls + 1
    fold.state.put(ENTITIES, entity_call_key(event.workflow_id, call), EntityCallRow(event.run_id))
    fold.state.put(ENTITIES, entity_key(event.workflow_id), row._replace(calls=call, waiting=row.waiting + 1))
    return call


def leave(fold: Fold, run: RunRow) -> None:
    """A call has closed, in its turn or while it waited; the next one's turn comes at once."""
    event = fold.event
    row = _row(fold)
    if row.running == event.run_id:
        row = row._replace(running="")
    else:
        fold.state.put(ENTITIES, entity_call_key(event.workflow_id, run.call), None)
        row = row._replace(waiting=row.waiting - 1)
    fold.state.put(ENTITIES, entity_key(event.workflow_id), row)
    if row.running or not row.waiting:
        return
    waiting = fold.state.scan(ENTITIES, entity_key(event.workflow_id), after=entity_key(event.workflow_id))
    _, following = next(waiting)
    name, due = f"{TIMER}|", event.recorded_at_ms
    if fold.state.get(TIMERS, timer_due_key(event.workflow_id, following.run_id, name)) is None:
        timer = TimerRow(event.workflow_id, following.run_id, TIMER, "")
        fold.state.put(TIMERS, timer_key(due, event.workflow_id, following.run_id, name), timer)
        fold.state.put(TIMERS, timer_due_key(event.workflow_id, following.run_id, name), TimerDueRow(due))


def entity_admitted(fold: Fold, run: RunRow, body: EntityAdmitted) -> Fields:
    event = fold.event
    fold.clear_timer(f"{TIMER}|")
    row = _row(fold)
    fold.state.put(ENTITIES, entity_call_key(event.workflow_id, run.call), None)
    row = row._replace(running=event.run_id, waiting=row.waiting - 1)
    fold.state.put(ENTITIES, entity_key(event.workflow_id), row)
    return {"status": "running"}


def entity_changed(fold: Fold, run: RunRow, body: EntityChanged) -> Fields:
    fold.state.put(ENTITIES, entity_key(fold.event.workflow_id), _row(fold)._replace(state=body.state))
    return {}


def _row(fold: Fold) -> EntityRow:
    found: EntityRow | None = fold.state.get(ENTITIES, entity_key(fold.event.workflow_id))
    return found or EntityRow()
