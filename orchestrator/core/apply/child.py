"""Children, signals and cancellations of other workflows: commands that leave by the outbox."""

from __future__ import annotations

from typing import Any

from .. import ids
from ..commands import CancelWorkflow, SignalWorkflow, StartWorkflow
from ..events import (
    CancelSent,
    ChildCancelRequested,
    ChildCompleted,
    ChildFailed,
    ChildRestarted,
    ChildScheduled,
    ChildStarted,
    SignalSent,
)
from ..rows import HISTORY, STEPS, ChildRow, RunRow, history_key, step_key
from ..values import ParentRef
from .fold import Fold

Fields = dict[str, Any]


def child_scheduled(fold: Fold, run: RunRow, body: ChildScheduled) -> Fields:
    row = ChildRow(body.workflow_type, body.child_workflow_id, "", body.close_policy, fold.event.seq)
    _start(fold, row, body)
    return {"pending_children": run.pending_children + 1}


def child_restarted(fold: Fold, run: RunRow, body: ChildRestarted) -> Fields:
    event, row = fold.event, _row(fold, body.child)
    scheduled = fold.state.get(HISTORY, history_key(event.workflow_id, event.run_id, row.scheduled_seq))
    row = _start(fold, row, scheduled.event.body)
    if body.cancelled:
        fold.send_command(row.child_workflow_id, CancelWorkflow(row.child_run_id))
    return {}


def _start(fold: Fold, row: ChildRow, body: ChildScheduled) -> ChildRow:
    event = fold.event
    step = ids.step_id(body.path, body.n)
    start = StartWorkflow(
        body.workflow_type,
        body.arguments,
        body.version,
        body.conflict,
        body.reuse,
        body.start_delay_ms,
        body.execution_timeout_ms,
        body.run_timeout_ms,
        parent=ParentRef(event.workflow_id, event.run_id, step),
        memo=body.memo,
        priority=body.priority,
        attributes=body.attributes,
        summary=body.summary,
    )
    command_id = fold.send_command(body.child_workflow_id, start, step=step)
    # Others may have runs of this workflow id: a cancellation must know its own before that is heard to have started.
    row = row._replace(child_run_id=ids.run_id(fold.settings.app, body.child_workflow_id, command_id))
    fold.state.put(STEPS, step_key(event.workflow_id, event.run_id, step), row)
    return row


def child_started(fold: Fold, run: RunRow, body: ChildStarted) -> Fields:
    row = _row(fold, body.child)
    key = step_key(fold.event.workflow_id, fold.event.run_id, body.child)
    fold.state.put(STEPS, key, row._replace(child_run_id=body.child_run_id))
    return {}


def child_completed(fold: Fold, run: RunRow, body: ChildCompleted) -> Fields:
    return _ended(fold, run, body.child)


def child_failed(fold: Fold, run: RunRow, body: ChildFailed) -> Fields:
    return _ended(fold, run, body.child)


def child_cancel_requested(fold: Fold, run: RunRow, body: ChildCancelRequested) -> Fields:
    row = _row(fold, body.child)
    fold.send_command(row.child_workflow_id, CancelWorkflow(row.child_run_id))
    return {}


def signal_sent(fold: Fold, run: RunRow, body: SignalSent) -> Fields:
    fold.send_command(body.target_workflow_id, SignalWorkflow(body.name, body.payload))
    return {}


def cancel_sent(fold: Fold, run: RunRow, body: CancelSent) -> Fields:
    fold.send_command(body.target_workflow_id, CancelWorkflow(), reason=body.reason)
    return {}


def _row(fold: Fold, child: str) -> ChildRow:
    row: ChildRow = fold.state.get(STEPS, step_key(fold.event.workflow_id, fold.event.run_id, child))
    return row


def _ended(fold: Fold, run: RunRow, child: str) -> Fields:
    fold.state.put(STEPS, step_key(fold.event.workflow_id, fold.event.run_id, child), None)
    return {"pending_children": run.pending_children - 1}
