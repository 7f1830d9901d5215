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
        async with world.down():
            await asyncio.sleep(0.3)
        assert await handle.result() == 0.2

    world.run(app, scenario)


@pytest.mark.contract("time-cancelled")
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
        await world.restart()
        moment = datetime.fromisoformat(await handle.result())
        events = [event async for event in handle.history()]
        assert [event.type for event in events].count("TimerFired") == 1
        fired = next(event for event in events if event.type == "TimerFired")
        assert fired.at_ms >= fired.body["due_at_ms"] >= moment.timestamp() * 1000

    world.run(app, scenario)


@pytest.mark.contract("time-sleep", "time-cancelled")
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


@app.workflow
async def gives_many_up(delays: list[float]) -> int:
    """Sets timers, drops those that are left when it is told to, and stays until all of them would be over."""
    timers = [asyncio.ensure_future(asyncio.sleep(delay)) for delay in delays]
    await go.wait()
    left = [timer for timer in timers if not timer.done()]
    for timer in left:
        timer.cancel()
    await asyncio.sleep(max(delays) + 0.2)
    return len(left)


@pytest.mark.contract("time-cancelled")
def test_of_timers_that_were_dropped_none_fires_while_its_run_goes_on(world: World) -> None:
    """Not in a life that has them in memory, and not in one that reads them from its state."""
    delays = [0.4 + number / 10 for number in range(8)]

    async def scenario(client: Client) -> None:
        at_once = await client.start(gives_many_up.options(id="at-once").with_signal(go, 1), delays)
        later = [await client.start(gives_many_up, delays) for _ in range(2)]
        for handle in later:
            await handle.signal(go, 1)
        await world.restart()
        assert await at_once.result() == len(delays), "in the turn behind the one that set them"
        for handle in (at_once, *later):
            dropped = await handle.result()
            story = [event async for event in handle.history()]
            ended = {kind: [one.body["timer"] for one in story if one.type == kind] for kind in ENDS}
            assert not set(ended["TimerFired"]) & set(ended["TimerCancelled"])
            assert len(ended["TimerCancelled"]) == dropped
            assert len(ended["TimerFired"]) == len(delays) - dropped + 1

    world.run(app, scenario)


ENDS = ("TimerFired", "TimerCancelled")


@app.workflow
async def waits_for_so_long(seconds: float, how: str) -> str:
    """A wait with an end, in each of the ways in which code can say so."""
    try:
        if how == "wait_for":
            return f"signal {await asyncio.wait_for(go.wait(), seconds)}"
        if how == "timeout":
            async with asyncio.timeout(seconds):
                return f"signal {await go.wait()}"
        if how == "timeout_at":
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + seconds):
                return f"signal {await go.wait()}"
        if how == "asyncio.wait":
            waits = asyncio.ensure_future(go.wait())
            done, _ = await asyncio.wait([waits], timeout=seconds)
            return f"signal {waits.result()}" if done else "timer"
        found = await go.wait(timeout=timedelta(seconds=seconds))
        return "timer" if found is None else f"signal {found}"
    except TimeoutError:
        return "timer"


@pytest.mark.contract("time-sleep", "time-cancelled")
def test_every_wait_with_an_end_ends_then_and_never_sooner(world: World) -> None:
    """After a down-time that began before it; a word that comes first ends it, and no time-out follows."""
    ways = ("wait_for", "timeout", "timeout_at", "asyncio.wait", "of the signal")

    async def scenario(client: Client) -> None:
        silent = {how: await client.start(waits_for_so_long, 0.5, how) for how in ways}
        told = {how: await client.start(waits_for_so_long, 3_600.0, how) for how in ways}
        async with world.down():
            await asyncio.sleep(0.6)
        for how, handle in silent.items():
            assert await handle.result() == "timer", how
            (was_set,) = [event async for event in handle.history() if event.type == "TimerSet"]
            (fired,) = [event async for event in handle.history() if event.type == "TimerFired"]
            assert fired.at_ms >= was_set.body["due_at_ms"] >= was_set.at_ms + 500
        for how, handle in told.items():
            await handle.signal(go, 7)
            assert await handle.result() == "signal 7", how
            kinds = [event.type async for event in handle.history()]
            assert (kinds.count("TimerCancelled"), kinds.count("TimerFired")) == (1, 0)

    world.run(app, scenario)
