"""How a run's own events change its head."""

from __future__ import annotations

from typing import Any

from ..commands import CancelWorkflow, ReportChild, TerminateWorkflow
from ..events import (
    CancelRequested,
    RunAnnotated,
    RunCancelled,
    RunCompleted,
    RunContinuedAsNew,
    RunFailed,
    RunParked,
    RunPatched,
    RunPaused,
    RunPinned,
    RunResumed,
    RunStarted,
    RunTerminated,
    SignalReceived,
)
from ..rows import RUNS, STEPS, TIMERS, ChildRow, CurrentRow, RunRow, WaitRow, current_key, timer_due_key
from ..values import NOTHING, Failure, ParentRef, Payload
from . import approval, entity, flow, lane, topic, update
from .fold import Fold
from .step import stop_worker

Fields = dict[str, Any]


def run_started(fold: Fold, body: RunStarted) -> RunRow:
    """The one event that makes a row instead of changing one."""
    event = fold.event
    begins = event.recorded_at_ms + body.start_delay_ms
    ends = body.execution_ends_ms or (begins + body.execution_timeout_ms if body.execution_timeout_ms else 0)
    if body.start_delay_ms:
        fold.set_timer("start", "", begins)
    if body.run_timeout_ms:
        fold.set_timer("run", "", begins + body.run_timeout_ms)
    if ends:
        fold.set_timer("execution", "", ends)
    fold.state.put(RUNS, current_key(event.workflow_id), CurrentRow(event.run_id))
    if body.parent is not None:
        _tell_parent(fold, body.parent, "started")
    status = "queued" if body.queued else "delayed" if body.start_delay_ms else "limited" if body.limits else "running"
    if status == "limited":
        flow.ask(fold, body.limits)
    return RunRow(
        workflow_type=body.workflow_type,
        version=body.version,
        status=status,
        seq=0,
        head_hash=b"",
        seed=body.seed,
        started_at_ms=event.recorded_at_ms,
        parent=body.parent,
        code=body.code,
        call=entity.enter(fold) if body.queued else 0,
        run_timeout_ms=body.run_timeout_ms,
        execution_ends_ms=ends,
        memo=body.memo,
        limits=body.limits,
        forked_upto=body.forked_upto,
        attributes=body.attributes,
        summary=body.summary,
    )


def run_pinned(fold: Fold, run: RunRow, body: RunPinned) -> Fields:
    fields: Fields = {"version": body.version, "code": body.code}
    if not body.limits:
        return fields
    flow.ask(fold, body.limits)
    return {**fields, "limits": body.limits, "status": "limited"}


def run_patched(fold: Fold, run: RunRow, body: RunPatched) -> Fields:
    return {"patches": (*run.patches, body.patch)}


def run_annotated(fold: Fold, run: RunRow, body: RunAnnotated) -> Fields:
    known = {one.name: one for one in (*run.attributes, *body.attributes)}
    summary = run.current_summary if body.summary is None else body.summary
    return {"attributes": tuple(known.values()), "current_summary": summary}


def signal_received(fold: Fold, run: RunRow, body: SignalReceived) -> Fields:
    return {}


def cancel_requested(fold: Fold, run: RunRow, body: CancelRequested) -> Fields:
    return {"cancel_requested": True}


def run_parked(fold: Fold, run: RunRow, body: RunParked) -> Fields:
    return {
        "status": "parked",
        "parked_kind": body.kind,
        "parked_message": body.message,
        "parked_at": body.call_site,
    }


def run_paused(fold: Fold, run: RunRow, body: RunPaused) -> Fields:
    who = f"by {body.actor.id}" if body.actor.id else f"by a {body.actor.kind}"
    return {"status": "paused", "parked_message": f"{who}: {body.reason}" if body.reason else who}


def run_resumed(fold: Fold, run: RunRow, body: RunResumed) -> Fields:
    fold.clear_timer("start|")
    if run.status == "delayed" and run.limits:
        flow.ask(fold, run.limits)
    status = "limited" if run.limits and not run.admitted else "running"
    return {"status": status, "parked_kind": "", "parked_message": "", "parked_at": "", "attempts": 0}


def run_completed(fold: Fold, run: RunRow, body: RunCompleted) -> Fields:
    return _close(fold, run, "completed", result=body.result)


def run_failed(fold: Fold, run: RunRow, body: RunFailed) -> Fields:
    return _close(fold, run, "failed", failure=body.failure)


def run_cancelled(fold: Fold, run: RunRow, body: RunCancelled) -> Fields:
    return _close(fold, run, "cancelled", failure=Failure("RunCancelled", "the run was cancelled", retryable=False))


def run_terminated(fold: Fold, run: RunRow, body: RunTerminated) -> Fields:
    why = f"terminated: {body.reason}" if body.reason else "terminated"
    return _close(fold, run, "terminated", failure=Failure("RunTerminated", why, retryable=False))


def run_continued_as_new(fold: Fold, run: RunRow, body: RunContinuedAsNew) -> Fields:
    return {**_close(fold, run, "continued_as_new"), "next_run_id": body.new_run_id}


def _tell_parent(
    fold: Fold, parent: ParentRef, outcome: str, result: Payload = NOTHING, failure: Failure | None = None
) -> None:
    fold.send_command(
        parent.workflow_id, ReportChild(parent.run_id, parent.step, fold.event.run_id, outcome, result, failure)
    )


def _close(fold: Fold, run: RunRow, status: str, result: Payload = NOTHING, failure: Failure | None = None) -> Fields:
    """Everything a run had pending goes; parent and children are told."""
    event = fold.event
    if run.parent is not None and status != "continued_as_new":
        _tell_parent(fold, run.parent, status, result, failure)
    pending = run.pending_steps or run.pending_children or run.pending_waits
    if run.pending_steps or run.pending_children:
        lane.close(fold)
    for key, row in list(fold.state.scan(STEPS, (event.workflow_id, event.run_id))) if pending else ():
        if isinstance(row, ChildRow):
            _close_child(fold, row)
        elif isinstance(row, WaitRow):
            topic.forget(fold, str(key[2]), row)
        else:
            stop_worker(fold, str(key[2]), row, f"its run is {status}")
            lane.end_with_run(fold, str(key[2]), row)
            for name in row.timers:
                fold.clear_timer(name)
        fold.state.put(STEPS, key, None)
    for name in _run_timers(fold):
        fold.clear_timer(name)
    if run.pending_updates:
        update.end_all(fold)
    if run.pending_approvals:
        approval.end_all(fold)
    if run.call:
        entity.leave(fold, run)
    if run.limits:
        flow.give_back(fold, run.limits)
    fold.set_timer("purge", "", event.recorded_at_ms + fold.settings.retention_ms)
    return {
        "status": status,
        "closed_at_ms": event.recorded_at_ms,
        "result": result,
        "failure": failure,
        "pending_steps": 0,
        "pending_timers": 0,
        "pending_children": 0,
        "pending_updates": 0,
        "pending_waits": 0,
        "pending_approvals": 0,
    }


def _run_timers(fold: Fold) -> list[str]:
    prefix = timer_due_key(fold.event.workflow_id, fold.event.run_id, "")[:3]
    return [str(key[3]) for key, _ in fold.state.scan(TIMERS, prefix)]


def _close_child(fold: Fold, child: ChildRow) -> None:
    if child.close_policy == "terminate":
        fold.send_command(child.child_workflow_id, TerminateWorkflow(child.child_run_id))
    elif child.close_policy == "request_cancel":
        fold.send_command(child.child_workflow_id, CancelWorkflow(child.child_run_id))
