"""Rows and events as JSON for people: what `describe`, `history` and `list` answer."""

from __future__ import annotations

import base64
import json
from typing import Any

from ..core.events import DELIVERABLE, Event, Record
from ..core.rows import RunRow, ScheduleRow, StepRow
from ..core.schedules import PREFIX, run_workflow_id
from ..core.values import Failure, LimitNeed, Payload
from .search import attributes_view

Json = dict[str, Any]
MOST_LEVELS = 200


def payload_view(payload: Payload) -> Any:
    """A payload's value if it is readable JSON; what it is otherwise (`client/histories.py` reads both)."""
    if payload.blob is None and payload.codec == "json" and not payload.key_id:
        try:
            value = json.loads(payload.data)
        except (ValueError, RecursionError):
            value = {"$codec": ""}
        if _is_nested(payload.data, value):
            value = {"$codec": ""}
        # A value that looks like an envelope of ours would be read back as one.
        if not (isinstance(value, dict) and "$codec" in value):
            return value
    envelope: Json = {
        "$codec": payload.codec,
        "key_id": payload.key_id,
        "base64": base64.b64encode(payload.data).decode(),
    }
    return envelope if payload.blob is None else {**envelope, "blob": payload.blob._asdict()}


def _is_nested(data: bytes, value: Any) -> bool:
    """Whether a value lies so deep in itself that a page which holds it could not be written, or read, as JSON."""
    if data.count(b"[") + data.count(b"{") <= MOST_LEVELS:
        return False
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_LEVELS):
        inside = (one.values() if isinstance(one, dict) else one for one in level)
        level = [child for children in inside for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def failure_view(failure: Failure | None) -> Json | None:
    """An error as people read it."""
    if failure is None:
        return None
    return {
        "type": failure.type,
        "message": failure.message,
        "details": payload_view(failure.details),
        "traceback": failure.traceback,
        "retryable": failure.retryable,
        "retry_after_ms": failure.retry_after_ms,
    }


def value_view(value: Any) -> Any:
    """Any field of an event."""
    if isinstance(value, Payload):
        return payload_view(value)
    if isinstance(value, Failure):
        return failure_view(value)
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "_asdict"):
        return {name: value_view(field) for name, field in value._asdict().items()}
    return [value_view(one) for one in value] if isinstance(value, tuple) else value


def event_view(event: Event) -> Json:
    """One event of a history, as it is exported: complete by itself."""
    body = event.body
    return {
        "workflow_id": event.workflow_id,
        "run_id": event.run_id,
        "seq": event.seq,
        "type": type(body).__name__,
        "at_ms": event.code_ms,
        "turn": getattr(body, "turn", 0),
        "delivered": isinstance(body, DELIVERABLE),
        "body": {name: value_view(value) for name, value in body._asdict().items() if name != "turn"},
        "cause": {
            name: value_view(value) for name, value in event.cause._asdict().items() if value not in ("", -1, None)
        },
        **({"trace": event.trace} if event.trace else {}),
        **({"copied_at_ms": event.recorded_at_ms} if event.original_ms else {}),
        "batch": [event.claim_no, event.batch_no, event.batch_index],
    }


def limits_view(limits: tuple[LimitNeed, ...]) -> list[Json]:
    """What is waited for."""
    return [{"group": need.group, "limit": need.name, "key": need.key} for need in limits]


def step_view(step: str, row: StepRow) -> Json:
    """A step that has no result yet."""
    return {
        "step": step,
        "name": row.name,
        "state": row.state,
        "attempt": row.attempt,
        "since_ms": row.since_ms,
        "next_at_ms": row.since_ms + row.window_ms if row.state == "backoff" else None,
        "queue": row.options.queue,
        "worker": row.worker,
        "on_crash": row.options.on_crash,
        "limits": limits_view(row.options.limits) if row.state == "limited" else [],
    }


def schedule_view(name: str, row: ScheduleRow) -> Json:
    """A schedule, its next time and what came of the last ones."""
    schedule_id = name.removeprefix(PREFIX)
    return {
        "id": schedule_id,
        "paused": row.paused,
        "note": row.note,
        "next_at_ms": row.due.at_ms,
        "created_at_ms": row.created_at_ms,
        "spec": value_view(row.spec),
        "action": value_view(row.action),
        "policy": value_view(row.policy),
        "running": [run_workflow_id(schedule_id, row.action, at) for at in row.running],
        "buffered": [run_workflow_id(schedule_id, row.action, at) for at in row.buffered],
        "started": row.started,
        "skipped": row.skipped,
        "recent": [firing._asdict() for firing in row.recent],
    }


def starter_view(first: Record | None) -> Json | None:
    """Who asked for a run, and whether that is known or only said; None where its first event does not say."""
    actor = getattr(first.event.body, "actor", None) if first is not None else None
    return actor._asdict() if actor is not None else None


def run_view(workflow_id: str, run_id: str, run: RunRow) -> Json:
    """A run's head."""
    return {
        "workflow_id": workflow_id,
        "run_id": run_id,
        "workflow_type": run.workflow_type,
        "version": run.version,
        "status": run.status,
        "started_at_ms": run.started_at_ms,
        "closed_at_ms": run.closed_at_ms or None,
        "run_timeout_ms": run.run_timeout_ms or None,
        "execution_ends_at_ms": run.execution_ends_ms or None,
        "seq": run.seq,
        "steps_done": run.steps_done,
        "cancel_requested": run.cancel_requested,
        "parked": (
            {"kind": run.parked_kind, "message": run.parked_message, "call_site": run.parked_at}
            if run.status == "parked"
            else None
        ),
        "failure": failure_view(run.failure),
        "next_run_id": run.next_run_id or None,
        "forked_upto": run.forked_upto or None,
        "memo": payload_view(run.memo),
        "attributes": attributes_view(run.attributes),
        "summary": run.summary,
        "current_summary": run.current_summary,
        "code": run.code._asdict(),
        "patches": list(run.patches),
        "limits": limits_view(run.limits) if run.status == "limited" else [],
    }
