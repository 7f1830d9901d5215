"""How schedules' events change their rows; a started firing's command leaves by the outbox."""

from __future__ import annotations

from ..commands import CancelWorkflow, StartWorkflow, TerminateWorkflow
from ..events import ScheduleCreated, ScheduleDeleted, ScheduleFired, SchedulePaused, ScheduleRunEnded
from ..rows import SCHEDULES, ScheduleRow, schedule_key
from ..schedules import PREFIX, RECENT, Firing, run_workflow_id
from ..values import ParentRef
from .fold import Fold

TIMER = "schedule"


def schedule_created(fold: Fold, body: ScheduleCreated) -> None:
    now = fold.event.recorded_at_ms
    _put(fold, ScheduleRow(body.spec, body.action, body.policy, body.paused, body.note, now, body.due))


def schedule_paused(fold: Fold, body: SchedulePaused) -> None:
    _put(fold, _row(fold)._replace(paused=body.paused, note=body.note, due=body.due))


def schedule_fired(fold: Fold, body: ScheduleFired) -> None:
    row = _row(fold)
    schedule_id = fold.event.workflow_id.removeprefix(PREFIX)
    workflow_id = run_workflow_id(schedule_id, row.action, body.nominal_ms)
    row = row._replace(due=body.due, buffered=tuple(at for at in row.buffered if at != body.nominal_ms))
    if body.outcome == "started":
        _start(fold, row, workflow_id, body.nominal_ms)
        row = row._replace(running=(*row.running, body.nominal_ms), started=row.started + 1)
    elif body.outcome == "buffered":
        # Who cancels the others is the only one that waits for their end.
        before = () if body.ends else row.buffered
        row = row._replace(buffered=(*before, body.nominal_ms))
    else:
        row = row._replace(skipped=row.skipped + 1)
    for number, nominal in enumerate(row.running if body.ends else ()):
        end = TerminateWorkflow() if body.ends == "terminate" else CancelWorkflow()
        other = run_workflow_id(schedule_id, row.action, nominal)
        fold.send_command(other, end, command_id=f"{fold.event.workflow_id}/{body.nominal_ms}/{body.ends}/{number}")
    _put(fold, _with_firing(row, Firing(body.nominal_ms, fold.event.recorded_at_ms, workflow_id, body.outcome)))


def schedule_run_ended(fold: Fold, body: ScheduleRunEnded) -> None:
    row = _row(fold)
    recent = tuple(
        one._replace(outcome=body.outcome) if one.nominal_ms == body.nominal_ms else one for one in row.recent
    )
    running = tuple(at for at in row.running if at != body.nominal_ms)
    _put(fold, row._replace(running=running, recent=recent))


def schedule_deleted(fold: Fold, body: ScheduleDeleted) -> None:
    fold.clear_timer(f"{TIMER}|")
    fold.state.put(SCHEDULES, schedule_key(fold.event.workflow_id), None)


def _start(fold: Fold, row: ScheduleRow, workflow_id: str, nominal_ms: int) -> None:
    name, action = fold.event.workflow_id, row.action
    start = StartWorkflow(
        workflow_type=action.workflow_type,
        arguments=action.arguments,
        version=action.version,
        execution_timeout_ms=action.execution_timeout_ms,
        run_timeout_ms=action.run_timeout_ms,
        parent=ParentRef(name, "", str(nominal_ms)),
    )
    fold.send_command(workflow_id, start, command_id=f"{name}/{nominal_ms}")


def _with_firing(row: ScheduleRow, firing: Firing) -> ScheduleRow:
    others = [one for one in row.recent if one.nominal_ms != firing.nominal_ms]
    return row._replace(recent=tuple([*others, firing][-RECENT:]))


def _row(fold: Fold) -> ScheduleRow:
    row: ScheduleRow = fold.state.get(SCHEDULES, schedule_key(fold.event.workflow_id))
    return row


def _put(fold: Fold, row: ScheduleRow) -> None:
    if row.due.at_ms:
        fold.set_timer("schedule", "", row.due.at_ms)
    else:
        fold.clear_timer(f"{TIMER}|")
    fold.state.put(SCHEDULES, schedule_key(fold.event.workflow_id), row)
