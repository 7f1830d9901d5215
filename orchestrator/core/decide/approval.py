"""Decisions about approvals: one answer each, to exactly what was asked."""

from __future__ import annotations

from ..approvals import ApprovalDecided, ApprovalExpired, ApprovalRow, DecideApproval
from ..commands import Command, FireTimer
from ..rows import APPROVALS, step_key
from .decision import Context, Draft, View, caused, current_run, rejected


def decide_approval(view: View, command: Command, body: DecideApproval, context: Context) -> list[Draft]:
    """The first answer counts; one to another question than the one that stands does not."""
    run_id, run = current_run(view, command.workflow_id, body.run_id)
    if run is None:
        return rejected(command, context, "not_found", f"{command.workflow_id}/{body.run_id}: no such run")
    row: ApprovalRow | None = view.get(APPROVALS, step_key(command.workflow_id, run_id, body.approval))
    if row is None:
        message = f"{command.workflow_id}/{run_id} waits for no approval {body.approval}: it was answered, or withdrawn"
        return rejected(command, context, "not_waiting", message, run_id)
    if row.expires_at_ms and context.now_ms >= row.expires_at_ms:
        return rejected(command, context, "not_waiting", f"approval {row.name} ({body.approval}) has expired", run_id)
    if body.digest != row.digest:
        message = f"approval {row.name} ({body.approval}): what stands is {row.digest}, not {body.digest}; look again"
        return rejected(command, context, "other_request", message, run_id)
    decided = ApprovalDecided(body.approval, body.approved, row.digest, body.comment, command.actor, body.by)
    return [Draft(command.workflow_id, run_id, decided, caused(command, context))]


def expired(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """The time to answer is over."""
    row: ApprovalRow | None = view.get(APPROVALS, step_key(workflow_id, run_id, timer.ref))
    if row is None or context.now_ms < row.expires_at_ms:
        return []
    return [Draft(workflow_id, run_id, ApprovalExpired(timer.ref))]
