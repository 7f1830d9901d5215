"""Questions about limits: answered from the rows of their home."""

from __future__ import annotations

import itertools
from typing import Any

from ..core.decide.decision import View
from ..core.limit_rows import (
    LIMITS,
    PREFIX,
    Key,
    LimitRow,
    LimitTaskRow,
    holder_key,
    limit_key,
    queue_key,
    rate_free_at,
    task_key,
)

Json = dict[str, Any]
SHOWN = 100
COUNTED = 10_000


def listed(view: View, arguments: Json) -> Json:
    """A page of the limits that live here: of each how much is held and how many wait."""
    count = min(int(arguments.get("limit", 100)), 1_000)
    after: Key | None = tuple(arguments["after"]) if arguments.get("after") else None
    found: list[Json] = []
    last: Key = ()
    for key, row in view.scan(LIMITS, (), after=after):
        if not isinstance(row, LimitRow) or key == after:
            continue
        if len(found) == count:
            return {"limits": found, "next": list(last)}
        last = key
        found.append(_limit(view, str(key[0]), row))
    return {"limits": found, "next": None}


def described(view: View, home: str, arguments: Json) -> Json | None:
    """A limit, who holds it and who waits, in order; None if nobody needs it now. Of `task` its place is told."""
    task = str(arguments.get("task") or "")
    if task:
        return _place(view, home, task)
    name, key = str(arguments.get("name")), str(arguments.get("key") or "")
    row: LimitRow | None = view.get(LIMITS, limit_key(home, name, key))
    if row is None:
        return None
    return {
        **_limit(view, home, row),
        "holders": _tasks(view, home, holder_key(home, name, key)),
        "queue": _tasks(view, home, queue_key(home, name, key)),
    }


def absent(arguments: Json) -> str:
    """What is said of a limit, or of a task's place, that is not in the rows."""
    if arguments.get("task"):
        return f"{arguments['task']} holds no slot now, and waits for none"
    key = f" of key {arguments['key']!r}" if arguments.get("key") else ""
    return f"limit {arguments.get('name')!r}{key}: nobody holds it now, or waits for it"


def _limit(view: View, home: str, row: LimitRow) -> Json:
    spec = row.spec
    return {
        "group": home.removeprefix(PREFIX),
        "limit": spec.name,
        "key": spec.key,
        "held": row.held,
        "waiting": row.waiting,
        "concurrency": spec.concurrency,
        "rate": spec.rate,
        "rate_ms": spec.rate_ms,
        "strategy": spec.strategy,
        "debounce_ms": spec.debounce_ms,
        "free_at_ms": max(row.due_ms, rate_free_at(view.get, home, row)),
    }


def _tasks(view: View, home: str, prefix: Key) -> list[Json]:
    found = []
    for _, place in itertools.islice(view.scan(LIMITS, prefix), SHOWN):
        row: LimitTaskRow = view.get(LIMITS, task_key(home, place.task))
        need = row.needs[max(row.waits_for, 0)]
        found.append({**row.task._asdict(), "since_ms": row.since_ms, "priority": need.priority})
    return found


def _place(view: View, home: str, task: str) -> Json | None:
    row: LimitTaskRow | None = view.get(LIMITS, task_key(home, task))
    if row is None or row.waits_for < 0:
        return None
    need = row.needs[row.waits_for]
    queue = itertools.islice(view.scan(LIMITS, queue_key(home, need.name, need.key)), COUNTED)
    before = sum(1 for _ in itertools.takewhile(lambda found: found[1].task != task, queue))
    return {"limit": need.name, "key": need.key, "place": before + 1}
