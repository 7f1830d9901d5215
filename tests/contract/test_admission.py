"""Admission: beyond its limits an application refuses new starts; whatever has begun goes on."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from orchestrator import Client, Orchestrator, Overloaded, continue_as_new
from tests.contract.world import World

app = Orchestrator("admission")
go = app.signal("go", int)
let_go = threading.Event()


@app.step
async def takes_long() -> int:
    while not let_go.is_set():
        await asyncio.sleep(0.01)
    return 1


@app.workflow
async def waits(rounds: int = 0) -> int:
    value = await go.wait()
    if rounds:
        continue_as_new(rounds - 1)
    return value


@app.workflow
async def many(steps: int) -> int:
    return sum(await asyncio.gather(*(takes_long() for _ in range(steps))))


@app.workflow
async def parent() -> int:
    return await waits.options(id="child")()


async def full(client: Client, tries: int = 100) -> list[str]:
    """Start runs until one is refused; the ids of those that are open."""
    opened = []
    for number in range(tries):
        try:
            await client.start(waits.options(id=f"run-{number}"))
        except Overloaded:
            return opened
        opened.append(f"run-{number}")
    raise AssertionError(f"{tries} runs were let in")


@pytest.mark.contract("admission")
def test_new_starts_are_refused_and_all_else_passes(world: World) -> None:
    async def scenario(client: Client) -> None:
        outer = await client.start(parent)
        while [run.workflow_id async for run in client.runs("running")].count("child") == 0:
            await asyncio.sleep(0.01)
        opened = await full(client)
        assert len(opened) < 12
        refused = f"run-{len(opened)}"
        # A refusal leaves nothing: the same command is let in once there is room.
        again = client.using(command_id="again")
        with pytest.raises(Overloaded, match="open runs on the partition") as over:
            await again.start(waits.options(id=refused))
        assert over.value.code == "overloaded"
        # What is open is reached: signals, results, one that takes the place of another, continue-as-new.
        if opened:
            same = await client.start(waits.options(id=opened[0], conflict="terminate_existing"), 1)
            await same.signal(go, 1)
            await client.handle(waits, opened[0]).signal(go, 7)
            assert await same.result() == 7
        await client.handle(waits, "child").signal(go, 3)
        assert await outer.result() == 3
        for name in opened[1:]:
            await client.handle(waits, name).terminate()
        started = await again.start(waits.options(id=refused))
        assert [event.type async for event in started.history()].count("RunStarted") == 1
        await started.terminate()

    world.run(app, scenario, max_open_runs=10)


@pytest.mark.contract("admission")
def test_a_backlog_of_steps_refuses_starts_until_it_is_worked_off(world: World) -> None:
    let_go.clear()

    async def scenario(client: Client) -> None:
        busy = await client.start(many.options(id="same"), 20)
        refused = 0
        for number in range(50):
            try:
                await client.start(waits.options(id=f"other-{number}"))
            except Overloaded:
                refused += 1
        assert refused > 0
        let_go.set()
        assert await busy.result(timeout=timedelta(seconds=30)) == 20
        for number in range(20):
            await client.start(waits.options(id=f"later-{number}"))

    world.run(app, scenario, max_pending_steps=20)


@pytest.mark.contract("admission")
def test_the_count_survives_a_restart(world: World) -> None:
    async def scenario(client: Client) -> None:
        opened = await full(client)
        await world.restart()
        with pytest.raises(Overloaded):
            await client.using(timeout=30).start(waits.options(id=f"run-{len(opened)}"))

    world.run(app, scenario, max_open_runs=10)
