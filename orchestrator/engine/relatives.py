"""Where a run comes from and what it has begun, and which signals nobody took: what `describe` adds to its rows."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from ..core import events as e, ids
from ..core.decide.decision import CLOSED, View
from ..core.rows import HISTORY, RUNS, STEPS, ChildRow, RunRow, history_key, run_key
from ..core.values import Payload
from ..sdk.turn import LiveRun
from .turns import RunKey, Turns

Json = dict[str, Any]
MOST = 100
"""Children, signals and forks that one answer names."""
LOOKED_AT = 2_000
"""Events of a history that are read, and runs of an id, for somebody who only looks."""


def told(view: View, turns: Turns, key: RunKey, run: RunRow) -> Json:
    """All of it."""
    return {
        **lineage(view, key, run),
        "children": children(view, key, run),
        "untaken_signals": untaken_signals(view, turns, key, run),
    }


def lineage(view: View, key: RunKey, run: RunRow) -> Json:
    """The parent that hears of its end, the run before it, and the runs that were forked from it."""
    return {
        "parent": run.parent._asdict() if run.parent is not None else None,
        "previous_run_id": _previous(view, key) or None,
        "forks": _forks(view, key),
    }


def _previous(view: View, key: RunKey) -> str:
    first = view.get(HISTORY, history_key(*key, 1))
    body = first.event.body if first is not None else None
    return body.previous_run_id if isinstance(body, e.RunStarted) else ""


def _forks(view: View, key: RunKey) -> list[Json]:
    found = []
    for at, other in islice(view.scan(RUNS, (key[0],)), LOOKED_AT):
        if isinstance(other, RunRow) and other.forked_upto and _previous(view, (key[0], str(at[1]))) == key[1]:
            found.append({"run_id": str(at[1]), "upto": other.forked_upto})
    return found[:MOST]


def children(view: View, key: RunKey, run: RunRow) -> list[Json]:
    """Its children, the newest last, and what became of each; those of a long history that are open alone."""
    if run.seq > LOOKED_AT:
        rows = view.scan(STEPS, run_key(*key))
        pending = ((str(at[2]), row) for at, row in rows if isinstance(row, ChildRow))
        return [_child(step, row.workflow_type, row.child_workflow_id, row.child_run_id) for step, row in pending][
            -MOST:
        ]
    found: dict[str, Json] = {}
    for _, record in view.scan(HISTORY, key):
        _told(found, record.event.body)
    return list(found.values())[-MOST:]


def _told(found: dict[str, Json], body: e.Body) -> None:
    """What an event of the parent says of its children."""
    if isinstance(body, e.ChildScheduled):
        step = ids.step_id(body.path, body.n)
        found[step] = _child(step, body.workflow_type, body.child_workflow_id, "")
    elif isinstance(body, e.ChildStarted):
        found[body.child]["run_id"] = body.child_run_id
    elif isinstance(body, e.ChildRestarted):
        found[body.child] |= {"run_id": "", "status": "open"}
    elif isinstance(body, e.ChildCompleted):
        found[body.child]["status"] = "completed"
    elif isinstance(body, e.ChildFailed):
        found[body.child]["status"] = body.outcome


def _child(step: str, workflow_type: str, workflow_id: str, run_id: str) -> Json:
    return {
        "step": step,
        "workflow_type": workflow_type,
        "workflow_id": workflow_id,
        "run_id": run_id,
        "status": "open",
    }


def untaken_signals(view: View, turns: Turns, key: RunKey, run: RunRow) -> list[Json] | None:
    """Signals that the run's code has not taken, oldest first: its code knows. None: nobody looked.

    Code that stands still has not seen what came since. That of a long history which left memory is not replayed.
    """
    if run.status in CLOSED:
        return []
    places = set[int]()
    if run.status in ("running", "paused"):
        if run.seq > LOOKED_AT and not turns.remembers(key):
            return None
        answer = turns.ask(view, key, run, _untaken, owed=run.status == "running")
        if answer is None:
            return None
        places |= set(json.loads(answer.data))
    if run.status != "running":
        places |= {event.seq for event in _since(view, key, run.turn) if isinstance(event.body, e.SignalReceived)}
    records = [view.get(HISTORY, history_key(*key, seq)) for seq in sorted(places)[:MOST]]
    return [
        {
            "seq": one.event.seq,
            "name": one.event.body.name,
            "at_ms": one.event.code_ms,
            "id": one.event.cause.command_id,
        }
        for one in records
        if one is not None
    ]


def _untaken(live: LiveRun) -> Payload:
    return Payload(data=json.dumps(live.mailbox.untaken()).encode())


def _since(view: View, key: RunKey, seq: int) -> list[e.Event]:
    found = islice(view.scan(HISTORY, key, after=history_key(*key, seq)), LOOKED_AT)
    return [record.event for _, record in found]
