"""Histories as they are exported (`orchestrator workflow history ID -o jsonl`), turned back into events."""

from __future__ import annotations

import base64
import json
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orchestrator.core import events
from orchestrator.core.events import Event
from orchestrator.core.values import BlobRef, Payload
from orchestrator.errors import UndecodableRecord

from .views import JsonObject

TYPES = {body.__name__: body for body in typing.get_args(events.RunBody)}


def event_of(raw: JsonObject, workflow_id: str = "", run_id: str = "") -> Event:
    """One exported event; the ids are for one that does not name its own.

    Payloads come back as compact JSON: equal values, not always equal bytes.

    Raises UndecodableRecord naming the event.
    """
    try:
        kind: Any = TYPES[str(raw["type"])]
        fields = dict(raw["body"])
        if "turn" in kind._fields:
            fields["turn"] = raw["turn"]
        workflow_id, run_id = str(raw.get("workflow_id", workflow_id)), str(raw.get("run_id", run_id))
        return Event(workflow_id, run_id, int(raw["seq"]), _record(kind, fields), recorded_at_ms=int(raw["at_ms"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UndecodableRecord(
            f"event {raw.get('seq', '?')} ({raw.get('type', 'without a type')}) of {workflow_id} is not as"
            f" `workflow history` exports it: {type(error).__name__}: {error}"
        ) from error


def read_history(path: Path) -> list[JsonObject]:
    """The events of an exported file, JSON or JSON lines. Raises UndecodableRecord, OSError."""
    try:
        text = path.read_text(encoding="utf-8").strip()
        found = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    except ValueError as error:
        raise UndecodableRecord(f"{path} is neither JSON nor JSON lines: {error}") from error
    if not found or not all(isinstance(event, dict) for event in found):
        raise UndecodableRecord(f"{path} holds no events: export them with `orchestrator workflow history ID -o jsonl`")
    return list(found)


def turns(history: Iterable[Event]) -> list[tuple[Event, list[Event]]]:
    """Each delivered event with what its turn recorded, in order of delivery."""
    deliveries: list[tuple[Event, list[Event]]] = []
    by_seq: dict[int, list[Event]] = {}
    for event in history:
        if isinstance(event.body, events.DELIVERABLE):
            by_seq[event.seq] = []
            deliveries.append((event, by_seq[event.seq]))
        turn = getattr(event.body, "turn", 0)
        if turn in by_seq:
            by_seq[turn].append(event)
    return deliveries


def _record(kind: Any, fields: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], fields[name]) for name in kind._fields if name in fields})


def _value(hint: Any, raw: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if raw is None:
            return None
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if hint is Payload:
        return _payload(raw)
    if hint is bytes:
        return bytes.fromhex(raw)
    if typing.get_origin(hint) is tuple:
        return tuple(_value(typing.get_args(hint)[0], one) for one in raw)
    return _record(hint, raw) if hasattr(hint, "_fields") else raw


def _payload(raw: Any) -> Payload:
    if isinstance(raw, dict) and "$codec" in raw:
        blob = BlobRef(**raw["blob"]) if "blob" in raw else None
        return Payload(raw["$codec"], raw["key_id"], base64.b64decode(raw["base64"]), blob)
    return Payload(data=json.dumps(raw, ensure_ascii=False, separators=(",", ":")).encode())
