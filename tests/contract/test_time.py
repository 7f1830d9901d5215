"""The contract, "Time"."""

from __future__ import annotations

import asyncio
import time

import pytest

from orchestrator import Client, Orchestrator
from tests.contract.world import World

app = Orchestrator("contract-time")
go = app.signal("go", int)


@app.workflow
async def sleeps(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@app.workflow
async def races(seconds: float) -> str:
    """A signal and a timer, whichever comes first."""
    try:
        async with asyncio.timeout(seconds):
            return f"signal {await go.wait()}"
    except TimeoutError:
        return "timer"


@pytest.mark.contract("time-sleep")
def test_a_sleep_is_never_early(world: World) -> None:
    async def scenario(client: Client) -> None:
        began = time.time()
        assert await client.execute(sleeps, 0.3) == 0.3
        assert time.time() - began >= 0.3

    world.run(app, scenario)


@pytest.mark.contract("time-sleep")
def test_a_sleep_ends_after_any_down_time(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sleeps, 0.2)
        await asyncio.to_thread(world.stop)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(world.start)
        assert await handle.result() == 0.2

    world.run(app, scenario)


@pytest.mark.contract("time-race")
def test_a_cancelled_timer_never_fires(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(races, 60.0)
        await handle.signal(go, 7)
        assert await handle.result() == "signal 7"
        kinds = [event.type async for event in handle.history()]
        assert "TimerCancelled" in kinds
        assert "TimerFired" not in kinds

    world.run(app, scenario)
