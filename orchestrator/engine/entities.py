"""Reads of entities: answered from the state that the last call left, beside whatever call runs."""

from __future__ import annotations

import itertools
import json
from typing import Any

from ..core.commands import QueryWorkflow
from ..core.decide.decision import View
from ..core.rows import ENTITIES, EntityRow, RunRow, entity_key
from ..core.values import Payload
from ..sdk.registry import Registry
from ..store.blobs import Blobs
from ..store.large import at_hand, bytes_of
from .views import payload_view

COUNTED = 1_000
SHOWN_BYTES = 150_000
"""Of a state for people, which escapes may make six times as long."""


def read(view: View, registry: Registry, blobs: Blobs | None, workflow_id: str, body: QueryWorkflow) -> Payload:
    """The answer of a `@query` method; with an empty name, what the entity is.

    Raises what the method raises, BlobError when the state cannot be had.
    """
    row: EntityRow | None = view.get(ENTITIES, entity_key(workflow_id))
    if not body.name:
        return Payload(data=json.dumps(_described(workflow_id, row, blobs), separators=(",", ":")).encode())
    name = workflow_id.partition("/")[0]
    code = registry.entities.get(name)
    if code is None:
        raise LookupError(f"entity {name} is not in this engine; deploy the code that defines it")
    state = bytes_of((row or EntityRow()).state, blobs, f"the state of {workflow_id}")
    return code.read(state, body.name, body.arguments)


def _described(workflow_id: str, row: EntityRow | None, blobs: Blobs | None) -> dict[str, Any]:
    found = row or EntityRow()
    state = at_hand(found.state, blobs, SHOWN_BYTES)
    return {
        "workflow_id": workflow_id,
        "state": payload_view(state) if state.data or state.blob else None,
        "running": found.running,
        "waiting": found.waiting,
        "calls": found.calls,
    }


def why_queued(view: View, workflow_id: str, run: RunRow) -> str:
    """What a call waits for, in a sentence."""
    row: EntityRow = view.get(ENTITIES, entity_key(workflow_id)) or EntityRow()
    calls = view.scan(ENTITIES, entity_key(workflow_id), after=entity_key(workflow_id))
    before = sum(1 for _ in itertools.islice((key for key, _ in calls if int(key[1]) < run.call), COUNTED))
    more = f" and {before}{' or more' if before == COUNTED else ''} that came before it" if before else ""
    return f"waits for its turn: {workflow_id} takes one call at a time, now run {row.running or 'none'}{more}"
