"""The contract, "Many runs": flow control of whole runs, judged by what the home of a limit recorded, in its order."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Client, Handle, Orchestrator, RunCancelled, RunClosed
from orchestrator.core.events import SlotsAwaited
from tests.contract.world import World

app = Orchestrator("contract-flow-runs")
go = app.signal("go", int)
order: list[int] = []
"""Who began: steps run in this process."""


@pytest.fixture(autouse=True)
def _afresh() -> None:
    order.clear()


@app.step(isolation="thread")
async def begun(number: int) -> None:
    order.append(number)


async def running(handle: Handle[Any]) -> None:
    """Wait until it is admitted."""
    while (await handle.describe()).status != "running":
        await asyncio.sleep(0.01)


SWITCH = app.limit("switch", key="tenant", singleton="cancel")
PAIR = app.limit("pair", concurrency=2, strategy="cancel_newest")
RANKS = app.limit("ranks", concurrency=1)


@app.workflow(limits=[SWITCH])
async def switched(tenant: str, number: int) -> int:
    await begun(number)
    await go.wait()
    return number


@app.workflow(limits=[PAIR])
async def of_two(number: int) -> int:
    await begun(number)
    await go.wait()
    return number


@app.workflow(limits=[RANKS])
async def ranked(number: int) -> int:
    return number + await go.wait()


async def reason(handle: Handle[Any]) -> str:
    """Why a run was asked to cancel."""
    return "; ".join([event.body["reason"] async for event in handle.history() if event.type == "CancelRequested"])


@pytest.mark.contract("flow-singleton")
def test_a_singleton_cancels_the_run_before(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(switched, "a", 1)
        while 1 not in order:
            await asyncio.sleep(0.01)
        other = await client.start(switched, "b", 9)
        second = await client.start(switched, "a", 2)
        with pytest.raises(RunCancelled):
            await first.result()
        assert "switch" in await reason(first)
        for handle in (second, other):
            await handle.signal(go, 0)
        assert (await second.result(), await other.result()) == (2, 9)
        mine = [first.run_id, second.run_id]
        assert [task.run_id for _, task in await world.granted("switch") if task.run_id in mine] == mine

    world.run(app, scenario)


@pytest.mark.contract("flow-concurrency")
def test_cancel_newest_gives_up_what_is_too_many_before_its_code_begins(world: World) -> None:
    async def scenario(client: Client) -> None:
        pair = [await client.start(of_two, number) for number in (1, 2)]
        for handle in pair:
            await running(handle)
        third = await client.start(of_two, 3)
        with pytest.raises(RunCancelled):
            await third.result()
        assert "pair" in await reason(third)
        for handle in pair:
            await handle.signal(go, 0)
        assert [await handle.result() for handle in pair] == [1, 2]
        while [one async for one in client.limits.list()]:
            await asyncio.sleep(0.01)
        fourth = await client.start(of_two, 4)
        await fourth.signal(go, 0)
        assert await fourth.result() == 4
        assert 3 not in order
        granted = {task.run_id for _, task in await world.granted("pair")}
        assert granted == {handle.run_id for handle in (*pair, fourth)}

    world.run(app, scenario)


@pytest.mark.contract("flow-priority")
def test_of_runs_that_wait_a_higher_priority_comes_first(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(ranked, 0)
        await running(first)
        low, usual, high = [
            await client.start(workflow, number)
            for number, workflow in enumerate((ranked.options(priority=-3), ranked, ranked.options(priority=7)), 1)
        ]
        while (await client.limits.describe("ranks")).waiting < 3:
            await asyncio.sleep(0.01)
        for handle in (first, low, usual, high):
            await handle.signal(go, 0)
        assert [await handle.result() for handle in (low, usual, high)] == [1, 2, 3]
        granted = [task.run_id for _, task in await world.granted("ranks")]
        assert granted == [handle.run_id for handle in (first, high, usual, low)]

    world.run(app, scenario)


@app.workflow
async def ranking() -> list[int]:
    """Children that ask while another run holds the only slot."""
    urgency = (-3, 0, 7)
    children = [ranked.options(id=f"child-{one}", priority=one)(number) for number, one in enumerate(urgency, 1)]
    return await asyncio.gather(*children)


@pytest.mark.contract("flow-priority")
def test_of_children_that_wait_a_higher_priority_comes_first(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(ranked, 0)
        await running(first)
        parent = await client.start(ranking)
        while (await client.limits.describe("ranks")).waiting < 3:
            await asyncio.sleep(0.01)
        low, usual, high = [client.handle(ranked, f"child-{one}") for one in (-3, 0, 7)]
        queue = (await client.limits.describe("ranks")).raw["queue"]
        assert [(one["workflow_id"], one["priority"]) for one in queue] == [
            ("child-7", 7),
            ("child-0", 0),
            ("child--3", -3),
        ]
        for handle in (first, low, usual, high):
            await handle.signal(go, 0)
        assert await parent.result() == [1, 2, 3]
        granted = [task.workflow_id for _, task in await world.granted("ranks")]
        assert granted == [first.workflow_id, "child-7", "child-0", "child--3"]

    world.run(app, scenario)


ENDLESS = app.limit("endless", debounce=(timedelta(hours=1), timedelta(seconds=0.5)))


@app.workflow(limits=[ENDLESS])
async def at_the_latest(number: int) -> int:
    await begun(number)
    return number


@pytest.mark.contract("flow-debounce")
def test_debounce_lets_somebody_begin_at_the_latest_so_long_after_the_first(world: World) -> None:
    """Somebody asks all the time: nobody's hour would ever be over."""

    async def scenario(client: Client) -> None:
        handles: list[Handle[int]] = []
        while not order:
            handles.append(await client.start(at_the_latest, len(handles)))
            assert len(handles) < 1_000
        first: int | None = None
        newest = ""
        begins = 0
        for at, body in await world.asked("endless"):
            if isinstance(body, SlotsAwaited):
                first, newest = at if first is None else first, body.task.run_id
            else:
                assert first is not None
                assert (at - first >= 500, body.task.run_id) == (True, newest)
                first, begins = None, begins + 1
        assert begins
        for handle in handles:
            with contextlib.suppress(RunClosed):
                await handle.terminate()

    world.run(app, scenario)
