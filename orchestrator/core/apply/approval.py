"""How approvals change a run's rows."""

from __future__ import annotations

from typing import Any

from .. import ids
from ..approvals import ApprovalAsked, ApprovalDecided, ApprovalExpired, ApprovalRow, ApprovalWithdrawn
from ..rows import APPROVALS, RunRow, step_key
from .fold import Fold

Fields = dict[str, Any]
TIMER = "approval"


def approval_asked(fold: Fold, run: RunRow, body: ApprovalAsked) -> Fields:
    event = fold.event
    approval = ids.step_id(body.path, body.n)
    row = ApprovalRow(body.name, body.request, body.to, body.digest, event.recorded_at_ms, body.expires_at_ms)
    fold.state.put(APPROVALS, step_key(event.workflow_id, event.run_id, approval), row)
    if body.expires_at_ms:
        fold.set_timer(TIMER, approval, body.expires_at_ms)
    return {"pending_approvals": run.pending_approvals + 1}


def approval_decided(fold: Fold, run: RunRow, body: ApprovalDecided) -> Fields:
    return _ended(fold, run, body.approval)


def approval_expired(fold: Fold, run: RunRow, body: ApprovalExpired) -> Fields:
    return _ended(fold, run, body.approval)


def approval_withdrawn(fold: Fold, run: RunRow, body: ApprovalWithdrawn) -> Fields:
    return _ended(fold, run, body.approval)


def _ended(fold: Fold, run: RunRow, approval: str) -> Fields:
    fold.state.put(APPROVALS, step_key(fold.event.workflow_id, fold.event.run_id, approval), None)
    fold.clear_timer(f"{TIMER}|{approval}")
    return {"pending_approvals": run.pending_approvals - 1}


def end_all(fold: Fold) -> None:
    """Its run ends: nothing stands any more."""
    for key, _ in list(fold.state.scan(APPROVALS, (fold.event.workflow_id, fold.event.run_id))):
        fold.state.put(APPROVALS, key, None)
