"""Runs of one partition wait for each other's turns, never for each other's replays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.engine.builder import Builder
from orchestrator.engine.run import Engine
from tests.engine.rig import Rig, until

Make = Callable[..., Rig]
TURNS = 40

app = Orchestrator("fairness")
go = app.signal("go", int)


@app.workflow
async def long(turns: int) -> int:
    """Each of its turns takes some milliseconds."""
    total = 0
    for _ in range(turns):
        total += await go.wait() + sum(range(600_000)) * 0
    return total


@app.workflow
async def other() -> int:
    return 1


def test_commands_get_into_batches_while_a_run_is_replayed(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that ends the long run was sent first: it would end first if commands waited for its replay."""
    one = rig(app, 1)
    engine = one.engine()
    one.start("long", long, TURNS)
    for _ in range(TURNS - 1):
        one.signal("long", "go", b"1")
    # In good order, however long that takes: else both are in doubt, and the long one comes first.
    engine.stop(60.0)
    one.send("long", c.SignalWorkflow("go", Payload(data=b"1")))
    one.send("other", c.StartWorkflow("other", Payload(data=b"{}")))
    replay, again = Builder.wake_later, list[Engine]()

    def with_both_commands_at_hand(*arguments: Any) -> None:
        monkeypatch.undo()
        until(lambda: bool(again) and len(again[0].partitions[0].inbox.commands) == 2)
        replay(*arguments)

    monkeypatch.setattr(Builder, "wake_later", with_both_commands_at_hand)
    again.append(one.engine())
    one.wait_for(e.RunCompleted, "other")
    one.wait_for(e.RunCompleted, "long")
    ends = [event.workflow_id for event in one.events() if isinstance(event.body, e.RunCompleted)]
    assert ends == ["other", "long"]
