"""Refused commands of a workflow id: its partition remembers the answers as long as it does the commands' ids."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from ..core.decide.decision import View
from ..core.rows import DEDUP, DedupRow, Key, dedup_key
from .turns import RunKey

Json = dict[str, Any]
PAGE = 50
"""Refusals that one answer names; with their messages and ids they fit into it."""
LOOKED_AT = 2_000
"""Commands that are looked through for one answer."""
MOST_LETTERS = 1_000
"""Of a message."""
SHOWN = 5


def listed(view: View, workflow_id: str, run_id: str, arguments: Json, horizon_ms: int) -> Json:
    """A page of a workflow id's refusals, or of one of its runs', by their commands' ids; `next` is where to go on."""
    limit = min(int(arguments.get("limit", PAGE)), PAGE)
    after = tuple(arguments["after"]) if arguments.get("after") else None
    found: list[Json] = []
    for count, (key, row) in enumerate(_answers(view, workflow_id, after), 1):
        if row.reply.outcome == "rejected" and row.reply.run_id in ("", run_id or row.reply.run_id):
            found.append(_view(row, horizon_ms))
        if len(found) == limit or count == LOOKED_AT:
            return {"rejections": found, "next": list(key)}
    return {"rejections": found, "next": None}


def newest(view: View, key: RunKey, horizon_ms: int) -> list[Json] | None:
    """The newest of a run, newest first; None where its workflow id had too many commands to look through."""
    rows = []
    for count, (_, row) in enumerate(_answers(view, key[0], None), 1):
        if count > LOOKED_AT:
            return None
        if row.reply.outcome == "rejected" and row.reply.run_id in ("", key[1]):
            rows.append(row)
    return [_view(row, horizon_ms) for row in heapq.nlargest(SHOWN, rows, _order)]


def _answers(view: View, workflow_id: str, after: Key | None) -> Iterator[tuple[Key, DedupRow]]:
    return view.scan(DEDUP, dedup_key(workflow_id, "")[:2], after)


def _order(row: DedupRow) -> tuple[int, str]:
    return row.expires_at_ms, row.reply.command_id


def _view(row: DedupRow, horizon_ms: int) -> Json:
    reply = row.reply
    return {
        "at_ms": row.expires_at_ms - horizon_ms,
        "code": reply.code,
        "message": reply.message[:MOST_LETTERS],
        "run_id": reply.run_id or None,
        "command_id": reply.command_id,
    }
