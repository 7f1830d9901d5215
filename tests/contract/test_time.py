"""The contract, "Time"."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from orchestrator import Client, Orchestrator, RunParked, now, sleep_until
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
        handle = await client.start(sleeps, 0.3)
        assert await handle.result() == 0.3
        started, fired = [event.at_ms async for event in handle.history() if event.type in ("RunStarted", "TimerFired")]
        assert fired - started >= 300

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


@app.workflow
async def sleeps_until(seconds: float, hours: int) -> str:
    """A moment of another time zone is the same moment; one that is past is no sleep."""
    moment = (now() + timedelta(seconds=seconds)).astimezone(timezone(timedelta(hours=hours)))
    await sleep_until(moment)
    assert now() >= moment
    await sleep_until(now() - timedelta(days=1))
    return moment.astimezone(UTC).isoformat()


@app.workflow
async def gives_up() -> str:
    """A sleep that is cancelled writes its timer off."""
    try:
        async with asyncio.timeout(0.1):
            await sleep_until(now() + timedelta(days=300))
    except TimeoutError:
        return "gave up"
    return "slept"


@app.workflow
async def naive() -> None:
    await sleep_until(datetime(2100, 1, 1))  # noqa: DTZ001


@pytest.mark.contract("time-sleep")
@pytest.mark.parametrize("hours", [0, -11])
def test_a_sleep_until_a_moment_ends_then_after_any_down_time(world: World, hours: int) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sleeps_until, 0.3, hours)
        await asyncio.to_thread(world.stop)
        await asyncio.to_thread(world.start)
        moment = datetime.fromisoformat(await handle.result())
        events = [event async for event in handle.history()]
        assert [event.type for event in events].count("TimerFired") == 1
        fired = next(event for event in events if event.type == "TimerFired")
        assert fired.at_ms >= fired.body["due_at_ms"] >= moment.timestamp() * 1000

    world.run(app, scenario)


@pytest.mark.contract("time-sleep", "time-race")
def test_a_sleep_until_that_is_given_up_never_fires(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(gives_up)
        assert await handle.result() == "gave up"
        kinds = [event.type async for event in handle.history()]
        assert (kinds.count("TimerSet"), kinds.count("TimerFired"), kinds.count("TimerCancelled")) == (2, 1, 1)

    world.run(app, scenario)


@pytest.mark.contract("time-sleep")
def test_a_moment_without_a_time_zone_is_refused(world: World) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(RunParked, match="has no time zone"):
            await client.execute(naive)

    world.run(app, scenario)
