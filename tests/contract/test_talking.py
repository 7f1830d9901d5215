"""The contract, "Talking to a run": signals and queries."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import Client, CommandRejected, Orchestrator, RunClosed, Signal
from tests.contract.world import World

app = Orchestrator("contract-talking")
item = app.signal("item", int)
late = app.signal("late", str)
total = app.query("total", int)
grow = app.query("grow", int)


@app.step
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


@app.workflow
async def collects(count: int) -> list[int]:
    """Takes so many items; its first step ends only after some have come."""
    found: list[int] = []
    total.answer(lambda: sum(found))

    def grows() -> int:
        item.send("nobody", 1)
        return 0

    grow.answer(grows)
    await nap(0.2)
    while len(found) < count:
        found.append(await item.wait())
    return found


@app.workflow
async def takes_late() -> str:
    """Asks for its signal long after it came."""
    await nap(0.3)
    return await late.wait()


@app.workflow
async def ends() -> int:
    return 1


@pytest.mark.contract("signal-durable")
def test_signals_come_in_order_and_are_kept_until_taken(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 20)
        for number in range(20):
            await handle.signal(item, number)
        assert await handle.result() == list(range(20))

    world.run(app, scenario)


@pytest.mark.contract("signal-durable")
def test_a_signal_that_came_before_its_waiter_survives_a_restart(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(takes_late)
        await handle.signal(late, "early")
        await world.restart()
        assert await handle.result() == "early"

    world.run(app, scenario)


@pytest.mark.contract("signal-durable")
def test_the_same_signal_counts_once(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 2)
        for _ in range(3):
            await handle.using(command_id="once").signal(item, 5)
        await handle.signal(item, 6)
        assert await handle.result() == [5, 6]
        kinds = [event.type async for event in handle.history()]
        assert kinds.count("SignalReceived") == 2

    world.run(app, scenario)


@pytest.mark.contract("signal-closed")
def test_a_signal_after_close_is_refused_with_a_word(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(ends)
        await handle.result()
        with pytest.raises(RunClosed, match=handle.workflow_id):
            await handle.signal(item, 1)
        with pytest.raises(CommandRejected):
            await client.handle(ends, "never-started").signal(item, 1)

    world.run(app, scenario)


@pytest.mark.contract("signal-durable")
def test_a_signal_of_another_type_is_refused_and_the_run_goes_on(world: World) -> None:
    """From somebody who does not use the application's own objects: on the log it would park the run."""
    words: Signal[str] = Signal("item", str)

    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 2)
        await handle.signal(item, 1)
        with pytest.raises(CommandRejected, match='signal item: "many" is no int') as refused:
            await handle.signal(words, "many")
        assert refused.value.code == "bad_request"
        await world.restart()
        with pytest.raises(CommandRejected, match='"more" is no int'):
            await client.start(
                collects.options(id=handle.workflow_id, conflict="use_existing").with_signal(words, "more"), 2
            )
        # It may be a newer release's.
        await handle.signal(Signal("unknown", str), "kept until code asks for it")
        await handle.signal(item, 2)
        assert await handle.result() == [1, 2]
        assert [event.type async for event in handle.history()].count("SignalReceived") == 3

    world.run(app, scenario)


@pytest.mark.contract("query")
def test_queries_of_running_idle_and_closed_runs(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 2)
        assert await handle.query(total) == 0
        await handle.signal(item, 4)
        while await handle.query(total) != 4:
            await asyncio.sleep(0.02)
        await world.restart()
        assert await handle.query(total) == 4
        await handle.signal(item, 5)
        assert await handle.result() == [4, 5]
        assert await handle.query(total) == 9

    world.run(app, scenario)


@pytest.mark.contract("query")
def test_a_query_that_would_change_state_raises(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 1)
        with pytest.raises(CommandRejected, match="quer") as refused:
            await handle.query(grow)
        assert refused.value.code == "query_failed"
        assert type(refused.value) is CommandRejected
        await handle.signal(item, 1)
        assert await handle.result() == [1]
        assert "SignalSent" not in [event.type async for event in handle.history()]

    world.run(app, scenario)
