"""The contract, how a run ends: what becomes of its children, what its parent is told, what its callers find later."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import (
    ChildCancelled,
    ChildFailed,
    Client,
    Handle,
    Orchestrator,
    RunCancelled,
    RunFailed,
    RunTerminated,
    WorkflowAlreadyClosed,
    WorkflowFailed,
    continue_as_new,
)
from tests.contract.world import World

app = Orchestrator("contract-closing")
go = app.signal("go", str)
ENDS = ("completed", "failed", "cancelled", "terminated", "timed out", "continued_as_new")


@app.error
class Refused(Exception):
    """A declared error with a field."""

    def __init__(self, cents: int) -> None:
        super().__init__(f"refused {cents}")
        self.cents = cents


@app.step(retry=1)
async def breaks(how: str) -> None:
    raise ValueError(how) if how == "built-in" else Refused(7)


@app.workflow
async def waits() -> str:
    return await go.wait()


@app.workflow
async def fails(how: str) -> None:
    if how == "on purpose":
        raise WorkflowFailed(how)
    await breaks(how)


@app.workflow
async def has_a_child(child_id: str) -> str:
    """Ends as it is told to, while its child, which it has started without a word of a policy, is open."""
    child = asyncio.ensure_future(waits.options(id=child_id)()) if child_id else None
    how = await go.wait()
    if how == "failed":
        raise WorkflowFailed("as asked")
    if how == "continued_as_new":
        continue_as_new("")
    assert child is None or not child.done()
    return how


@app.workflow
async def asks(child_id: str) -> list[str]:
    """What it hears of a child that somebody else ends."""
    try:
        await waits.options(id=child_id)()
    except ChildCancelled as error:
        return [type(error).__name__, error.outcome]
    return ["no error"]


@app.workflow
async def hears(how: str) -> list[Any]:
    """What it hears of a child that fails."""
    try:
        await fails(how)
    except (Refused, ValueError, WorkflowFailed) as error:
        cause = error.__cause__
        assert isinstance(cause, ChildFailed)
        return [type(error).__name__, str(error), cause.type, cause.outcome, getattr(error, "cents", 0)]
    return ["no error"]


async def ended(handle: Handle[Any], end: str) -> None:
    """Make a run end in one of the ways."""
    if end == "cancelled":
        await handle.cancel()
    elif end == "terminated":
        await handle.terminate()
    elif end != "timed out":
        await handle.signal(go, end)


@pytest.mark.contract("child-policy", "child-outcome")
def test_whatever_ends_a_parent_ends_the_child_that_has_no_policy_of_its_own(world: World) -> None:
    async def scenario(client: Client) -> None:
        for end in ENDS:
            timeout = timedelta(seconds=2) if end == "timed out" else timedelta(hours=1)
            parent = await client.start(has_a_child.options(id=end, run_timeout=timeout), f"{end}-child")
            child = client.handle(waits, f"{end}-child")
            while f"{end}-child" not in [run.workflow_id async for run in client.runs()]:
                await asyncio.sleep(0.02)
            await ended(parent, end)
            with pytest.raises(RunTerminated):
                await child.result()
            assert "CancelRequested" not in [event.type async for event in child.history()]
            found = await client.handle(has_a_child, end, parent.run_id).describe()
            assert found.status == ("failed" if end == "timed out" else end)
            if end == "continued_as_new":
                await client.handle(has_a_child, end).terminate()

    world.run(app, scenario)


@pytest.mark.contract("child-errors")
def test_a_parent_is_told_how_its_child_failed(world: World) -> None:
    async def scenario(client: Client) -> None:
        assert await client.execute(hears, "declared") == ["Refused", "refused 7", "Refused", "failed", 7]
        assert await client.execute(hears, "built-in") == ["ValueError", "built-in", "ValueError", "failed", 0]
        assert await client.execute(hears, "on purpose") == [
            "WorkflowFailed",
            "on purpose",
            "WorkflowFailed",
            "failed",
            0,
        ]

    world.run(app, scenario)


@pytest.mark.contract("child-errors")
@pytest.mark.parametrize("how", ["cancelled", "terminated"])
def test_a_parent_is_told_that_somebody_else_ended_its_child(world: World, how: str) -> None:
    async def scenario(client: Client) -> None:
        parent = await client.start(asks, f"{how}-child")
        child = client.handle(waits, f"{how}-child")
        while "ChildStarted" not in [event.type async for event in parent.history()]:
            await asyncio.sleep(0.02)
        await ended(child, how)
        assert await parent.result() == ["ChildCancelled", how]
        assert [one.status for one in (await parent.describe()).children] == [how]

    world.run(app, scenario)


@pytest.mark.contract("start-result-later", "start-reuse")
def test_every_kind_of_end_is_there_after_the_engines_started_anew(world: World) -> None:
    """And all but a result let the id be used again where only a failed run may."""
    starts = {end: waits.options(id=end) for end in ("cancelled", "terminated")}

    async def outcomes(client: Client) -> None:
        with pytest.raises(RunCancelled):
            await client.handle(waits, "cancelled").result()
        with pytest.raises(RunTerminated, match="as asked"):
            await client.handle(waits, "terminated").result()
        with pytest.raises(RunFailed, match="run time-out"):
            await client.handle(waits, "timed out").result()
        with pytest.raises(Refused) as declared:
            await client.handle(fails, "declared").result()
        assert declared.value.cents == 7
        with pytest.raises(RunFailed) as failed:
            await client.handle(fails, "built-in").result()
        assert failed.value.type == "ValueError"

    async def scenario(client: Client) -> None:
        handles = [await client.start(start) for start in starts.values()]
        await handles[0].cancel()
        await handles[1].using(reason="as asked").terminate()
        await client.start(waits.options(id="timed out", run_timeout=timedelta(milliseconds=200)))
        for how in ("declared", "built-in"):
            await client.start(fails.options(id=how), how)
        completed = await client.start(waits.options(id="completed"))
        await completed.signal(go, "done")
        await outcomes(client)
        await world.restart()
        await outcomes(client)
        assert await client.handle(waits, "completed").result() == "done"
        with pytest.raises(WorkflowAlreadyClosed):
            await client.start(waits.options(id="completed", reuse="allow_if_failed"))
        for name in ("cancelled", "terminated", "timed out", "declared"):
            again = await client.start(waits.options(id=name, reuse="allow_if_failed"))
            await again.signal(go, name)
            assert await again.result() == name

    world.run(app, scenario)
