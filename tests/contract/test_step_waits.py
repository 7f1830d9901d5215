"""The contract, "Steps": what waits for a slot, for the next attempt, for a step that is to end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from orchestrator import Client, Handle, Orchestrator, RetryPolicy, RunCancelled, StepCancelled, StepTimeout, step_info
from orchestrator.client.views import HistoryEvent
from orchestrator.engine.run import Engine
from tests.contract.world import World

app = Orchestrator("step-waits")
go = app.signal("go", int)
one_at_a_time = app.limit("one", concurrency=1)
LATER = RetryPolicy(initial_interval=timedelta(minutes=10))
SOON = RetryPolicy(initial_interval=timedelta(seconds=1), backoff=3.0, max_interval=timedelta(seconds=2))

began: set[str] = set()
told: set[str] = set()
ended: set[str] = set()
gates: dict[str, threading.Event] = {}
"""By workflow id: steps run in this process."""


@app.step
async def echo(value: int) -> int:
    return value


@app.step(limits=[one_at_a_time])
async def holds() -> int:
    """Until its run's gate opens."""
    key = step_info().workflow_id
    began.add(key)
    while not gates[key].is_set():
        await asyncio.sleep(0.01)
    return 1


@app.step(limits=[one_at_a_time])
async def hurried() -> int:
    return 2


@app.step(retry=LATER)
def fails_for_now() -> int:
    raise ConnectionError("not yet")


@app.step(retry=SOON)
async def third_time() -> int:
    if step_info().attempt < 3:
        raise ConnectionError(f"attempt {step_info().attempt}")
    return step_info().attempt


@app.step
async def ends_slowly() -> str:
    """Told to end, it does so when its run's gate opens."""
    key = step_info().workflow_id
    began.add(key)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        told.add(key)
        while not gates[key].is_set():
            await asyncio.sleep(0.01)
        ended.add(key)
        raise
    return "in time"


@app.workflow
async def occupies() -> int:
    return await holds()


@app.workflow
async def hurries(patience_s: float) -> str:
    try:
        return str(await hurried.options(schedule_to_start=timedelta(seconds=patience_s))())
    except StepTimeout as error:
        return str(error)


@app.workflow
async def tries_again() -> int:
    return await third_time()


@app.workflow
async def stuck() -> int:
    return await fails_for_now()


@app.workflow
async def passes(value: int) -> int:
    return await echo(value)


@app.workflow
async def lets_go(how: str) -> str:
    """Cancels its step when it is told to, and goes on when the await has ended."""
    step = ends_slowly.options(cancellation="wait") if how == "wait" else ends_slowly
    task = asyncio.ensure_future(step())
    await go.wait()
    task.cancel()
    try:
        return await task
    except (asyncio.CancelledError, StepCancelled):
        return "let go"


@app.step(cancellation="abandon")
async def left_alone() -> str:
    """Ends when its run's gate opens, or by what it is told."""
    key = step_info().workflow_id
    began.add(key)
    try:
        while not gates[key].is_set():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        told.add(key)
        raise
    ended.add(key)
    return "ran on"


@app.workflow
async def leaves() -> str:
    """Gives its step up, by its own will, and goes on."""
    task = asyncio.ensure_future(left_alone())
    await go.wait()
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return f"left, {await echo(1)}, {await go.wait()}"


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    while not holds():
        await asyncio.sleep(0.01)


async def events(handle: Handle[Any], kind: str) -> list[HistoryEvent]:
    """The events of a kind in a run's history."""
    return [event async for event in handle.history() if event.type == kind]


@pytest.mark.contract("step-timeouts")
def test_who_is_not_begun_in_time_is_given_up(world: World) -> None:
    """The slot is taken: schedule_to_start is over, and the attempt that holds it is untouched."""

    async def scenario(client: Client) -> None:
        first = client.handle(occupies, "occupies")
        gates["occupies"] = threading.Event()
        await client.start(occupies.options(id="occupies"))
        await until(lambda: "occupies" in began)
        late = await client.start(hurries, 0.5)
        assert "schedule_to_start" in await late.result()
        (failed,) = await events(late, "StepFailed")
        assert (failed.body["timeout"], failed.body["failure"]["type"]) == ("schedule_to_start", "StepTimeout")
        assert await events(late, "StepAdmitted") == []
        gates["occupies"].set()
        assert await first.result() == 1
        # The slot is free: who asks now begins at once.
        assert await client.execute(hurries, 60.0) == "2"

    world.run(app, scenario)


@pytest.mark.contract("step-backoff", "step-retry")
def test_a_back_off_ends_in_a_down_time_and_is_not_shortened_by_it(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(tries_again)
        while not await events(handle, "StepAttemptFailed"):
            await asyncio.sleep(0.01)
        async with world.down():
            await asyncio.sleep(1.2)
        assert await handle.result() == 3
        first, second = await events(handle, "StepAttemptFailed")
        (completed,) = await events(handle, "StepCompleted")
        assert [first.body["failure"]["message"], second.body["failure"]["message"]] == ["attempt 1", "attempt 2"]
        # By the clock of the run's own partition: 1 s, then 3 s cut to 2 s.
        assert second.at_ms - first.at_ms >= 1_000
        assert completed.at_ms - second.at_ms >= 2_000

    world.run(app, scenario)


@pytest.mark.contract("step-backoff")
def test_waiting_for_a_retry_holds_no_thread_and_no_worker(world: World) -> None:
    """More than any executor or worker here has slots: all wait, and another step runs."""

    async def scenario(client: Client) -> None:
        waiting = [await client.start(stuck) for _ in range(30)]
        for handle in waiting:
            while not await events(handle, "StepAttemptFailed"):
                await asyncio.sleep(0.01)
        for handle in waiting:
            (step,) = (await handle.describe()).raw["pending_steps"]
            assert (step["state"], step["worker"], step["attempt"]) == ("backoff", "", 1)
            assert step["next_at_ms"] - step["since_ms"] == 600_000
        assert await asyncio.gather(*(client.execute(passes, value) for value in range(20))) == list(range(20))
        assert [len(await events(handle, "StepAttemptFailed")) for handle in waiting] == [1] * 30
        await asyncio.gather(*(handle.terminate() for handle in waiting))

    world.run(app, scenario)


@pytest.mark.contract("step-backoff")
def test_waiting_for_a_retry_holds_no_memory_beyond_its_row(world: World) -> None:
    """Its code has been forgotten, no attempt is known to its engine, and each retry comes all the same."""
    mine = Orchestrator("step-waits-alone")

    @mine.step(retry=RetryPolicy(initial_interval=timedelta(seconds=2), backoff=1.0), isolation="thread")
    def fails_once() -> int:
        if step_info().attempt == 1:
            raise ConnectionError("not yet")
        return step_info().attempt

    @mine.workflow
    async def waits_long() -> int:
        return await fails_once()

    async def scenario(client: Client) -> None:
        waiting = [await client.start(waits_long) for _ in range(12)]
        for handle in waiting:
            while not await events(handle, "StepAttemptFailed"):
                await asyncio.sleep(0.01)

        def loops() -> list[Any]:
            engines = [engine for engine in list(world.engines) if isinstance(engine, Engine)]
            return [
                one._loop for engine in engines for one in list(engine.partitions.values()) if one._loop is not None
            ]

        assert loops()
        await until(lambda: all(len(loop.turns._runs) <= 1 and not loop.steps.wanting for loop in loops()))
        assert [await handle.result() for handle in waiting] == [2] * 12

    world.run(mine, scenario, cached_runs=1)


R = TypeVar("R")


async def run_that_told_its_step(
    start: Callable[[], Awaitable[Handle[R]]], ask: Callable[[Handle[R]], Awaitable[object]]
) -> Handle[R]:
    """Ask a run to end its step, which hears of it. One that was handed over does not: another run is begun then."""
    while not await tells_its_step(handle := await start(), ask):
        pass
    return handle


async def tells_its_step(handle: Handle[R], ask: Callable[[Handle[R]], Awaitable[object]]) -> bool:
    """Ask it to, once the step runs, and wait for that."""
    key = handle.workflow_id
    gates[key] = threading.Event()
    await until(lambda: key in began)
    await ask(handle)
    while key not in told and not await events(handle, "StepHandedOver"):
        await asyncio.sleep(0.01)
    return key in told


@pytest.mark.contract("step-cancel-modes", "step-cancel")
@pytest.mark.parametrize("how", ["try", "wait"])
def test_a_cancelled_await_goes_on_at_once_or_when_the_step_has_ended(world: World, how: str) -> None:
    async def scenario(client: Client) -> None:
        handle = await run_that_told_its_step(lambda: client.start(lets_go, how), lambda handle: handle.signal(go, 1))
        key = handle.workflow_id
        if how == "try":
            assert await handle.result() == "let go"
            assert key not in ended
            gates[key].set()
        else:
            assert await client.execute(passes, 7) == 7
            assert (await handle.describe()).status == "running"
            assert key not in ended
            gates[key].set()
            assert await handle.result() == "let go"
            assert key in ended
            assert len(await events(handle, "StepCancelled")) == 1
        await until(lambda: key in ended)

    world.run(app, scenario)


@pytest.mark.contract("step-cancel-modes")
def test_a_run_that_waits_for_its_steps_end_is_cancelled_after_it(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await run_that_told_its_step(lambda: client.start(waits_for_it), lambda handle: handle.cancel())
        key = handle.workflow_id
        assert await client.execute(passes, 8) == 8
        assert (await handle.describe()).is_open
        gates[key].set()
        with pytest.raises(RunCancelled):
            await handle.result()
        assert key in ended

    world.run(app, scenario)


@app.workflow
async def waits_for_it() -> str:
    return await ends_slowly.options(cancellation="wait")()


@pytest.mark.contract("step-cancel-modes")
def test_an_abandoned_step_runs_on_to_its_end(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(leaves)
        key = handle.workflow_id
        gates[key] = threading.Event()
        await until(lambda: key in began)
        await handle.signal(go, 1)
        while not await events(handle, "StepCompleted"):
            await asyncio.sleep(0.01)
        # The step after it has ended: what there was to tell the first one was recorded before.
        assert await events(handle, "StepCancelRequested") == []
        gates[key].set()
        while len(await events(handle, "StepCompleted")) < 2:
            await asyncio.sleep(0.01)
        assert (key in ended, key in told) == (True, False)
        await handle.signal(go, 2)
        assert await handle.result() == "left, 1, 2"

    world.run(app, scenario)
