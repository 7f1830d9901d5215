"""Limits as callers see them: what is held, who waits, and in which place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from orchestrator.core.limit_rows import home_of
from orchestrator.core.values import LimitedTask
from orchestrator.errors import CommandRejected

from .calls import Calls
from .views import JsonObject, RunDescription, json_object

SHOWN = 3


class LimitDescription(NamedTuple):
    """A limit and key that somebody needs now. `holders` and `queue` (the first of them) are told by `describe`."""

    name: str
    key: str
    group: str
    held: int
    waiting: int
    holders: tuple[LimitedTask, ...]
    queue: tuple[LimitedTask, ...]
    raw: JsonObject


class Limits:
    """The application's limits, as far as somebody needs them now. They are declared in code: `app.limit(...)`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(self) -> AsyncIterator[LimitDescription]:
        """Every limit that is held or waited for, asking every partition."""
        for partition in range(self._calls.caller.partitions):
            async for raw in self._calls.pages("limits", "limits", {}, partition):
                yield _description(raw)

    async def describe(self, name: str, key: str = "", group: str = "default") -> LimitDescription:
        """Who holds a limit, and who waits. Raises CommandRejected when nobody does."""
        reply = await self._calls.ask(home_of(group), "limit", {"name": name, "key": key})
        return _description(json_object(reply, f"limit {name}"))


def _description(raw: JsonObject) -> LimitDescription:
    return LimitDescription(
        raw["limit"],
        raw["key"],
        raw["group"],
        raw["held"],
        raw["waiting"],
        tuple(_task(one) for one in raw.get("holders") or ()),
        tuple(_task(one) for one in raw.get("queue") or ()),
        raw,
    )


def _task(raw: Any) -> LimitedTask:
    return LimitedTask(raw["workflow_id"], raw["run_id"], raw["step"], raw["attempt"])


async def with_places(calls: Calls, run: RunDescription) -> RunDescription:
    """The description of a run whose sentence says in which place it, or the first of its steps, waits for a slot."""
    waiting: list[tuple[str, str, int, Any]] = [
        (f"({step['step']}) waits for a slot of ", step["step"], step["attempt"], step["limits"])
        for step in run.raw.get("pending_steps") or ()
        if step.get("limits")
    ]
    if run.raw.get("limits"):
        waiting = [("waits for a slot of ", "", 0, run.raw["limits"])]
    why = run.why
    for phrase, step, attempt, limits in waiting[:SHOWN]:
        task = LimitedTask(run.workflow_id, run.run_id, step, attempt)
        try:
            reply = await calls.ask(home_of(limits[0]["group"]), "limit", {"task": task.id})
        except CommandRejected:
            # Its turn has come meanwhile.
            continue
        found = json_object(reply, f"the place of {task.id}")
        what = f"limit {found['limit']}" + (f" [{found['key']}]" if found["key"] else "")
        before, said, after = why.partition(phrase)
        if said:
            _, _, rest = after.partition(" (attempt")
            why = f"{before}{said}{what}, place {found['place']}" + (f" (attempt{rest}" if rest else "")
    return run._replace(why=why)
