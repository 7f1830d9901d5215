"""Approvals as JSON: what stands in a partition."""

from __future__ import annotations

from typing import Any

from ..core import ids
from ..core.approvals import ApprovalRow
from ..core.decide.decision import View
from ..core.rows import APPROVALS, Key
from .views import Json, payload_view

PAGE_BYTES = 500_000


def listed(view: View, arguments: Json) -> Json:
    """A page of what stands here, of a name or an addressee if they are given."""
    count = min(int(arguments.get("limit", 100)), 1_000)
    name, to = str(arguments.get("name") or ""), str(arguments.get("to") or "")
    after: Key | None = tuple(arguments["after"]) if arguments.get("after") else None
    found: list[Json] = []
    size = 0
    last: Key = ()
    for key, row in view.scan(APPROVALS, (), after=after):
        if (name and row.name != name) or (to and to not in row.to):
            continue
        size += len(row.request.data)
        if found and (len(found) == count or size > PAGE_BYTES):
            return {"approvals": found, "next": list(last)}
        last = key
        found.append(approval_view(key, row))
    return {"approvals": found, "next": None}


def approval_view(key: Key, row: ApprovalRow) -> dict[str, Any]:
    """For people and programs."""
    workflow_id, run_id, approval = (str(part) for part in key)
    return {
        "id": ids.idempotency_key(workflow_id, run_id, approval),
        "workflow_id": workflow_id,
        "run_id": run_id,
        "name": row.name,
        "to": list(row.to),
        "request": payload_view(row.request),
        "digest": row.digest,
        "asked_at_ms": row.asked_at_ms,
        "expires_at_ms": row.expires_at_ms,
    }
