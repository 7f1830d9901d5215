"""The contract, "All of them in bulk over a filter, with a dry run"."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import Client, Orchestrator, RunCancelled, Selection
from tests.contract.world import World

app = Orchestrator("contract-batches")
go = app.signal("go", int)


@app.workflow
async def waits(number: int) -> int:
    return number + await go.wait()


@app.workflow
async def others() -> int:
    return await go.wait()


@pytest.mark.contract("bulk")
def test_a_batch_is_shown_then_done_to_each_and_done_once(world: World) -> None:
    async def scenario(client: Client) -> None:
        mine = await asyncio.gather(*(client.start(waits, number) for number in range(7)))
        other = await client.start(others)
        of_mine = Selection(workflow_type="waits")
        shown = await client.batch("pause", of_mine, dry_run=True)
        assert {one.run_id for one in shown} == {handle.run_id for handle in mine}
        assert {(await handle.describe()).status for handle in mine} == {"running"}
        for _ in range(2):
            done = await client.batch("pause", of_mine, batch_id="b1")
            assert {one.outcome for one in done} <= {"done"}
        assert {(await handle.describe()).status for handle in mine} == {"paused"}
        assert (await other.describe()).status == "running"
        assert len(await client.batch("resume", of_mine._replace(limit=3))) == 3
        assert len(await client.batch("resume", of_mine)) == 4
        cancelled = await client.batch("cancel", of_mine, batch_id="b2")
        assert [one.outcome for one in cancelled] == ["done"] * 7
        for handle in mine:
            with pytest.raises(RunCancelled):
                await handle.result()
            kinds = [event.type async for event in handle.history()]
            assert (kinds.count("RunPaused"), kinds.count("CancelRequested")) == (1, 1)
        await other.signal(go, 5)
        assert await other.result() == 5

    world.run(app, scenario)
