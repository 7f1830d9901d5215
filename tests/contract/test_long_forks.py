"""Forks and resets of runs longer than what a copy may have: refused by name and number, or nothing is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator import Client, CommandRejected, Handle, Orchestrator, RetryPolicy, RunParked
from orchestrator.core.decide import fork
from tests.contract.test_change import steps_in_order
from tests.contract.test_forks import story
from tests.contract.world import World

MOST = 8


@pytest.fixture(autouse=True)
def short_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "MOST_EVENTS", MOST)


def long_runs() -> Any:
    """Of this process: its engines copy as little as this test says."""
    app = Orchestrator("long-forks")
    go = app.signal("go", int)

    @app.error
    class Declined(Exception):
        pass

    @app.step(retry=RetryPolicy(max_attempts=1))
    async def pays(number: int) -> int:
        if number == 13:
            raise Declined
        return number

    @app.workflow
    async def pays_and_hears(count: int, signals: int) -> list[int]:
        for number in range(count):
            await pays(number)
        return [await go.wait() for _ in range(signals)]

    return app, pays_and_hears, go, Declined


async def of(handle: Handle[Any], kind: str, count: int) -> list[str]:
    """Wait until so many events of a kind are in the history, which is returned."""
    while (found := await story(handle)).count(kind) < count:
        await asyncio.sleep(0.01)
    return found


async def refused(handle: Handle[Any], **given: Any) -> CommandRejected:
    with pytest.raises(CommandRejected) as caught:
        await handle.reset(**given)
    return caught.value


@pytest.mark.contract("reset")
def test_signals_far_behind_what_is_copied_are_kept(world: World) -> None:
    app, flow, go, _ = long_runs()

    async def scenario(client: Client) -> None:
        handle = await client.start(flow.options(id="long"), 12, 3)
        assert len(await of(handle, "StepCompleted", 12)) > 2 * MOST
        for value in (1, 2):
            await handle.signal(go, value)
        again = await handle.reset(event=1)
        assert (await story(again)).count("SignalReceived") == 2
        await again.signal(go, 3)
        assert await handle.result() == [1, 2, 3]

    world.run(app, scenario)


@pytest.mark.contract("reset", "limits")
def test_a_point_too_far_along_is_refused_and_the_run_goes_on(world: World) -> None:
    app, flow, go, _ = long_runs()

    async def scenario(client: Client) -> None:
        handle = await client.start(flow.options(id="long"), 12, 1)
        length = len(await of(handle, "StepCompleted", 12))
        error = await refused(handle, event=length)
        assert (error.code, f"{length} events would be copied, at most {MOST}" in str(error)) == ("limit", True)
        error = await refused(handle, event=length + 1)
        assert (error.code, f"it has {length} events" in str(error)) == ("no_such_point", True)
        with pytest.raises(CommandRejected, match="events would be copied") as caught:
            await handle.fork("pays")
        assert caught.value.code == "limit", "the last step of the name is meant, however far along"
        assert (await handle.describe()).status == "running"
        await handle.signal(go, 5)
        assert await handle.result() == [5]

    world.run(app, scenario)


@pytest.mark.contract("reset", "limits")
def test_more_signals_than_a_copy_takes_are_refused_and_may_be_left_out(world: World) -> None:
    app, flow, go, _ = long_runs()

    async def scenario(client: Client) -> None:
        handle = await client.start(flow.options(id="talks"), 0, MOST + 2)
        for value in range(MOST + 1):
            await handle.signal(go, value)
        error = await refused(handle, event=1)
        assert (error.code, f"{MOST + 1} later signals would be kept" in str(error)) == ("limit", True)
        assert (await handle.describe()).status == "running"
        again = await handle.reset(event=1, keep_signals=False)
        assert await story(again) == ["RunStarted"]
        await again.terminate()

    world.run(app, scenario)


@pytest.mark.contract("resume-failed", "limits")
def test_a_run_that_failed_too_far_along_is_refused_with_its_length(world: World) -> None:
    app, flow, _, declined = long_runs()

    async def scenario(client: Client) -> None:
        handle = await client.start(flow.options(id="fails"), 14, 0)
        with pytest.raises(declined):
            await handle.result()
        length = len(await story(handle))
        assert length > 2 * MOST
        error = await refused(handle)
        # All but the step's outcome and the run's.
        assert (error.code, f"{length - 2} events would be copied, at most {MOST}" in str(error)) == ("limit", True)
        again = await handle.reset(event=1)
        with pytest.raises(declined):
            await again.result()

    world.run(app, scenario)


@pytest.mark.contract("resume-failed", "limits")
def test_the_most_that_a_failed_run_goes_on_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One event more is refused; the failed run stays as it is, and goes on from an earlier step all the same."""
    app, flow, _, declined = long_runs()

    async def scenario(client: Client) -> None:
        handle = await client.start(flow.options(id="fails"), 14, 0)
        with pytest.raises(declined):
            await handle.result()
        recorded = await story(handle)
        copied = len(recorded) - 2
        monkeypatch.setattr(fork, "MOST_EVENTS", copied - 1)
        error = await refused(handle)
        assert error.code == "limit"
        assert f"{copied} events would be copied, at most {copied - 1} can be" in str(error)
        assert (await story(handle), (await handle.describe()).run_id) == (recorded, handle.run_id)
        with pytest.raises(declined):
            await (await handle.fork("0:1")).result()
        monkeypatch.setattr(fork, "MOST_EVENTS", copied)
        with pytest.raises(declined):
            await (await handle.reset()).result()

    world.run(app, scenario)


@pytest.mark.contract("fork", "limits")
def test_at_the_desk_a_run_that_diverged_too_far_along_parks_and_says_why(world: World) -> None:
    names = ("one", "two", "three") * 4
    before, flow, go = steps_in_order(*names)
    after, _, _ = steps_in_order(*names, "extra")

    async def scenario(client: Client) -> None:
        handle = await client.start(flow)
        await of(handle, "StepCompleted", len(names))
        await world.deploy(after)
        await handle.signal(go, 5)
        with pytest.raises(RunParked, match=rf"extra(?s:.*)events would be copied, at most {MOST}"):
            await handle.result()
        assert (await handle.describe()).raw["parked"]["kind"] == "diverged"
        await world.deploy(before)
        await handle.retry()
        assert await handle.result() == 1 + 2 * (len(names) - 1) + 5

    world.run(before, scenario, forks_diverged=True)
