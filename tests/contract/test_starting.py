"""The contract, "Starting and identity"."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from orchestrator import (
    Client,
    Handle,
    Orchestrator,
    RunCancelled,
    RunFailed,
    RunTerminated,
    WorkflowAlreadyClosed,
    WorkflowAlreadyRunning,
    WorkflowFailed,
    continue_as_new,
    run_info,
)
from tests.contract.world import World

app = Orchestrator("contract-starting")
go = app.signal("go", int)


@app.workflow
async def waits(word: str) -> str:
    """Ends when it is told to; how is in the word."""
    await go.wait()
    if word == "fail":
        raise WorkflowFailed("as asked")
    return word


@app.workflow
async def says(word: str) -> str:
    return word


@app.workflow
async def never() -> None:
    await go.wait()


@app.workflow
async def for_ever(rounds: int) -> None:
    """Continues as new again and again: only the time-out of the whole execution ends it."""
    await asyncio.sleep(0.1)
    continue_as_new(rounds + 1)


async def ended(handle: Handle[str]) -> str:
    await handle.signal(go, 1)
    return await handle.result()


async def runs_of(client: Client, workflow_id: str) -> list[str]:
    """Ids of every run of a workflow."""
    return [run.run_id async for run in client.runs() if run.workflow_id == workflow_id]


@pytest.mark.contract("start-conflict", "start-id")
def test_a_second_start_while_one_runs(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(waits.options(id="order-1"), "first")
        with pytest.raises(WorkflowAlreadyRunning, match="order-1"):
            await client.start(waits.options(id="order-1"), "second")
        same = await client.start(waits.options(id="order-1", conflict="use_existing"), "third")
        assert same.run_id == first.run_id
        other = await client.start(waits.options(id="order-1", conflict="terminate_existing"), "fourth")
        with pytest.raises(RunTerminated):
            await first.result()
        assert await ended(other) == "fourth"
        assert len(await runs_of(client, "order-1")) == 2

    world.run(app, scenario)


@pytest.mark.contract("start-reuse", "start-id")
def test_the_same_id_after_the_end(world: World) -> None:
    async def scenario(client: Client) -> None:
        done = await client.start(waits.options(id="a"), "done")
        assert await ended(done) == "done"
        again = await client.start(waits.options(id="a"), "again")
        assert again.run_id != done.run_id
        assert await ended(again) == "again"
        for reuse in ("reject", "allow_if_failed"):
            with pytest.raises(WorkflowAlreadyClosed, match="completed"):
                await client.start(waits.options(id="a", reuse=reuse), "no")  # type: ignore[arg-type]
        failed = await client.start(waits.options(id="b"), "fail")
        with pytest.raises(WorkflowFailed, match="as asked"):
            await ended(failed)
        with pytest.raises(WorkflowAlreadyClosed, match="failed"):
            await client.start(waits.options(id="b", reuse="reject"), "no")
        better = await client.start(waits.options(id="b", reuse="allow_if_failed"), "better")
        assert await ended(better) == "better"

    world.run(app, scenario)


@pytest.mark.contract("start-once")
def test_the_same_command_starts_once_without_an_id_of_the_workflow(world: World) -> None:
    async def scenario(client: Client) -> None:
        mine = client.using(command_id="mine")
        first, second = [await mine.start(waits, "once") for _ in range(2)]
        assert (first.workflow_id, first.run_id) == (second.workflow_id, second.run_id)
        other = await client.using(command_id="another").start(waits, "once")
        assert other.workflow_id != first.workflow_id
        assert [await ended(one) for one in (first, other)] == ["once", "once"]
        assert await runs_of(client, first.workflow_id) == [first.run_id]

    world.run(app, scenario)


@pytest.mark.contract("start-once")
def test_the_same_command_starts_once(world: World) -> None:
    """Sent twice at once, while the first is committed; while it runs; after its end; to the next owner."""

    async def scenario(client: Client) -> None:
        mine = client.using(command_id="mine")
        first, second = await asyncio.gather(*(mine.start(waits.options(id="w"), "once") for _ in range(2)))
        assert first.run_id == second.run_id
        assert (await mine.start(waits.options(id="w"), "once")).run_id == first.run_id
        await world.restart()
        assert (await mine.start(waits.options(id="w"), "once")).run_id == first.run_id
        assert await ended(first) == "once"
        assert (await mine.start(waits.options(id="w"), "once")).run_id == first.run_id
        assert await runs_of(client, "w") == [first.run_id]

    world.run(app, scenario)


@pytest.mark.contract("start-delay")
def test_a_start_with_a_delay_begins_no_sooner_and_survives_a_restart(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(says.options(start_delay=timedelta(milliseconds=300)), "late")
        far = await client.start(says.options(start_delay=timedelta(hours=1)), "never")
        assert (await far.describe()).status == "delayed"
        await world.restart()
        assert (await far.describe()).status == "delayed"
        await far.terminate()
        assert await handle.result() == "late"
        started, ended = [
            event.at_ms async for event in handle.history() if event.type in ("RunStarted", "RunCompleted")
        ]
        assert ended - started >= 300

    world.run(app, scenario)


@pytest.mark.contract("start-delay", "cancel", "start-timeouts")
def test_a_delayed_run_is_given_up_at_once_and_its_time_begins_with_it(world: World) -> None:
    """Its code never begins: there is nobody to ask. A time-out counts from the end of the delay."""

    async def scenario(client: Client) -> None:
        far = await client.start(waits.options(start_delay=timedelta(hours=1)), "never")
        await world.restart()
        await far.cancel()
        with pytest.raises(RunCancelled):
            await far.result()
        kinds = [event.type async for event in far.history()]
        assert kinds == ["RunStarted", "CancelRequested", "RunCancelled"]
        delay, short = timedelta(milliseconds=600), timedelta(milliseconds=300)
        both = [
            never.options(start_delay=delay, run_timeout=short),
            never.options(start_delay=delay, execution_timeout=short),
        ]
        for handle in [await client.start(one) for one in both]:
            with pytest.raises(RunFailed, match="time-out"):
                await handle.result()
            at = {event.type: event.at_ms async for event in handle.history()}
            assert at["RunResumed"] - at["RunStarted"] >= 600
            assert at["RunFailed"] - at["RunStarted"] >= 900

    world.run(app, scenario)


@pytest.mark.contract("start-timeouts")
def test_a_run_and_an_execution_end_in_time(world: World) -> None:
    async def scenario(client: Client) -> None:
        short = await client.start(never.options(run_timeout=timedelta(milliseconds=200)))
        with pytest.raises(RunFailed, match="run time-out"):
            await short.result()
        looping = await client.start(for_ever.options(id="loop", execution_timeout=timedelta(seconds=2)), 0)
        with pytest.raises(RunFailed, match="execution time-out"):
            await looping.result()
        assert len(await runs_of(client, "loop")) > 1

    world.run(app, scenario)


@pytest.mark.contract("start-result-later", "start-handles")
def test_a_result_is_there_after_the_run_closed_and_the_engines_started_anew(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(says.options(id="kept"), "kept")
        assert await handle.result() == "kept"
        await world.restart()
        assert await client.handle(says, "kept").result() == "kept"
        assert await client.handle(says, "kept", handle.run_id).result() == "kept"

    world.run(app, scenario)


@pytest.mark.contract("signal-kept", "start-delay")
def test_signals_before_a_delayed_start_and_before_the_wait_are_kept(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(waits.options(start_delay=timedelta(milliseconds=300)), "early")
        await handle.signal(go, 1)
        assert await handle.result() == "early"

    world.run(app, scenario)


@app.workflow
async def takes(count: int) -> int:
    """Ends with its last signal: one that comes meanwhile meets the completing turn."""
    assert run_info().workflow_id
    return sum([await go.wait() for _ in range(count)])


@pytest.mark.contract("signal-durable", "signal-closed")
def test_a_signal_that_meets_the_completing_turn_is_taken_or_refused(world: World) -> None:
    """Never half: what is acknowledged was recorded before the end, what is refused says that the run is closed."""

    async def scenario(client: Client) -> None:
        for _ in range(5):
            handle = await client.start(takes, 1)
            sent = await asyncio.gather(*(handle.signal(go, 1) for _ in range(4)), return_exceptions=True)
            assert await handle.result() == 1
            kinds = [event.type async for event in handle.history()]
            refused = [one for one in sent if one is not None]
            assert all(type(one).__name__ == "RunClosed" for one in refused)
            assert kinds.count("SignalReceived") == 4 - len(refused) >= 1

    world.run(app, scenario)


@pytest.mark.contract("start-signal")
def test_a_signal_with_the_start_is_one_commit_and_reaches_a_run_that_is_open(world: World) -> None:
    async def scenario(client: Client) -> None:
        starts = takes.options(id="inbox")
        first = await client.start(starts.with_signal(go, 1), 3)
        batches = [(event.type, event.raw["batch"][:2]) async for event in first.history()]
        assert [kind for kind, _ in batches[:2]] == ["RunStarted", "SignalReceived"]
        assert batches[0][1] == batches[1][1]
        second = await client.start(starts.with_signal(go, 10), 3)
        third = client.using(command_id="mine")
        again = [await third.start(starts.with_signal(go, 100), 3) for _ in range(2)]
        assert {first.run_id} == {second.run_id, *(one.run_id for one in again)}
        assert await first.result() == 111
        after = await client.start(starts.with_signal(go, 7), 1)
        assert after.run_id != first.run_id
        assert await after.result() == 7
        with pytest.raises(WorkflowAlreadyClosed):
            await client.start(starts.options(reuse="reject").with_signal(go, 1), 1)

    world.run(app, scenario)
