"""The contract, "Steps"."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

import pytest
from pydantic import BaseModel

from orchestrator import (
    Client,
    Handle,
    Orchestrator,
    RetryPolicy,
    RunCancelled,
    RunFailed,
    StepTimeout,
    step_info,
)
from tests.contract.world import World

app = Orchestrator("contract-steps")
FAST = RetryPolicy(initial_interval=timedelta(milliseconds=50), backoff=1.0)
calls: dict[str, list[float]] = {}
"""When each step of a run began, by workflow id and name: steps run in this process."""


def note(name: str) -> int:
    """A call of a step; how many there were."""
    found = calls.setdefault(f"{step_info().workflow_id}/{name}", [])
    found.append(time.time())
    return len(found)


@app.error
class Declined(Exception):
    """Not to be asked again."""

    cents: int

    def __init__(self, cents: int) -> None:
        super().__init__(f"declined {cents}")
        self.cents = cents


class Order(BaseModel):
    """A pydantic model."""

    id: str
    cents: int


@dataclass
class Parcel:
    """A dataclass."""

    grams: int
    items: list[str]


@app.step(retry=RetryPolicy(initial_interval=timedelta(milliseconds=50), backoff=1.0, max_attempts=4))
async def flaky(succeeds_at: int) -> int:
    """Fails until its n-th attempt."""
    attempt = note("flaky")
    if attempt < succeeds_at:
        raise RuntimeError(f"attempt {attempt}")
    return attempt


@app.step(retry=RetryPolicy(initial_interval=timedelta(milliseconds=50), backoff=1.0, non_retryable=("ValueError",)))
async def refuses() -> int:
    note("refuses")
    raise ValueError("wrong for good")


@app.step
async def decline(cents: int) -> int:
    note("decline")
    raise Declined(cents)


@app.step(retry=FAST)
async def later(delay_s: float) -> int:
    """Names its own delay once."""
    attempt = note("later")
    if attempt == 1:
        error = ConnectionError("429")
        error.next_retry_delay = timedelta(seconds=delay_s)  # type: ignore[attr-defined]
        raise error
    return attempt


@app.workflow
async def retries(succeeds_at: int) -> int:
    return await flaky(succeeds_at)


@app.workflow
async def refused() -> str:
    try:
        await refuses()
    except ValueError as error:
        return f"{error}, by {type(error.__cause__).__name__}"
    return "no error"


@app.workflow
async def declined(cents: int) -> int:
    try:
        return await decline(cents)
    except Declined as error:
        return error.cents


@app.workflow
async def delays(delay_s: float) -> int:
    return await later(delay_s)


@pytest.mark.contract("step-retry")
def test_attempts_until_one_succeeds(world: World) -> None:
    async def scenario(client: Client) -> None:
        assert await client.execute(retries, 3) == 3
        with pytest.raises(RunFailed, match="attempt 4"):
            await client.execute(retries, 9)

    world.run(app, scenario)


@pytest.mark.contract("step-retry")
def test_errors_that_are_not_retried(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(refused)
        assert await handle.result() == "wrong for good, by StepFailed"
        assert len(calls[f"{handle.workflow_id}/refuses"]) == 1
        assert await client.execute(declined, 7) == 7

    world.run(app, scenario)


@pytest.mark.contract("step-retry-delay", "step-backoff")
def test_an_error_names_its_own_delay_and_the_wait_survives_a_restart(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(delays, 1.0)
        await until_state(handle, "backoff")
        await world.restart()
        assert await handle.result() == 2
        first, second = calls[f"{handle.workflow_id}/later"]
        assert second - first >= 1.0

    world.run(app, scenario)


async def until_state(handle: Handle[int] | Handle[str], state: str) -> None:
    """Wait until the run's only pending step is in a state."""
    while [step.state for step in (await handle.describe()).pending_steps] != [state]:
        await asyncio.sleep(0.02)


@app.step(retry=1, start_to_close=timedelta(milliseconds=300))
async def slow() -> int:
    await asyncio.sleep(30)
    return 1


@app.step(retry=RetryPolicy(initial_interval=timedelta(minutes=1)), schedule_to_close=timedelta(seconds=5))
async def never() -> int:
    raise RuntimeError("again")


@app.step(retry=1, heartbeat=timedelta(milliseconds=300))
async def silent() -> int:
    await asyncio.sleep(30)
    return 1


@app.step(retry=RetryPolicy(initial_interval=timedelta(milliseconds=50), max_attempts=2))
async def counts() -> int:
    """Goes on where the attempt before it was."""
    info = step_info()
    begin = int(info.details or 0)
    for number in range(begin, 6):
        info.heartbeat(number)
        if number == 3 and info.attempt == 1:
            raise RuntimeError("in the middle")
    return begin


@app.workflow
async def too_slow(which: str) -> str:
    step = {"start_to_close": slow, "schedule_to_close": never, "heartbeat": silent}[which]
    try:
        await step()
    except StepTimeout as error:
        return f"time-out: {error}"
    except RuntimeError as error:
        return f"the last failure: {error}"
    return "no error"


@app.workflow
async def resumes() -> int:
    return await counts()


@pytest.mark.contract("step-timeouts")
@pytest.mark.parametrize("which", ["start_to_close", "heartbeat"])
def test_a_time_out_ends_the_step(world: World, which: str) -> None:
    async def scenario(client: Client) -> None:
        said = await client.execute(too_slow, which)
        assert said.startswith("time-out"), said
        assert which in said

    world.run(app, scenario)


@pytest.mark.contract("step-timeouts")
def test_no_retry_is_waited_for_beyond_schedule_to_close(world: World) -> None:
    async def scenario(client: Client) -> None:
        assert await client.execute(too_slow, "schedule_to_close") == "the last failure: again"

    world.run(app, scenario)


@pytest.mark.contract("step-heartbeat")
def test_the_next_attempt_gets_the_last_details(world: World) -> None:
    async def scenario(client: Client) -> None:
        assert await client.execute(resumes) == 3

    world.run(app, scenario)


@app.step
async def weigh(order: Order, *, factor: float = 1.0, tags: set[str] | None = None) -> Parcel:
    return Parcel(int(order.cents * factor), sorted(tags or {order.id}))


@app.step
def blocking(parcel: Parcel, extra: int) -> Parcel:
    time.sleep(0.01)
    return Parcel(parcel.grams + extra, [*parcel.items, threading.current_thread().name[:0]])


class Scale:
    """Its methods are steps; the object is the process's own."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    @app.step
    async def tare(self, parcel: Parcel) -> int:
        return parcel.grams - self.offset


scale = Scale(5)
app.bind(scale)


@app.workflow
async def kinds(order: Order) -> tuple[int, Parcel]:
    parcel = await blocking(await weigh(order, factor=2.0, tags={"b", "a"}), 1)
    return await scale.tare(parcel), parcel


@pytest.mark.contract("step-kinds")
def test_sync_async_methods_and_typed_values(world: World) -> None:
    async def scenario(client: Client) -> None:
        weight, parcel = await client.execute(kinds, Order(id="o-1", cents=10))
        assert (weight, parcel) == (16, Parcel(21, ["a", "b", ""]))

    world.run(app, scenario)


@app.step
async def echo(value: int, delay_s: float) -> int:
    await asyncio.sleep(delay_s)
    return value


@app.workflow
async def pairs(count: int) -> list[int]:
    """The later steps end first; one group inside another."""
    first = asyncio.gather(*(echo(n, (count - n) / 50) for n in range(count)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(echo(100 + n, (n % 3) / 50)) for n in range(count)]
    done = [await one for one in asyncio.as_completed([echo(200 + n, n / 50) for n in range(3)])]
    return [*await first, *(task.result() for task in tasks), *done]


@app.workflow
async def first_wins() -> int:
    done, pending = await asyncio.wait(
        [asyncio.ensure_future(echo(1, 20.0)), asyncio.ensure_future(echo(2, 0.01))],
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in pending:
        task.cancel()
    return next(iter(done)).result()


@pytest.mark.contract("step-concurrent")
def test_results_meet_their_calls(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(pairs, 5)
        assert await handle.result() == [*range(5), *range(100, 105), 200, 201, 202]
        assert await client.execute(first_wins) == 2

    world.run(app, scenario)


@pytest.mark.contract("step-concurrent")
def test_concurrent_steps_are_scheduled_in_one_commit(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(pairs, 5)
        await handle.result()
        scheduled = [event async for event in handle.history() if event.type == "StepScheduled"]
        assert len({tuple(event.raw["batch"][:2]) for event in scheduled[:10]}) == 1

    world.run(app, scenario)


@app.step(retry=1)
async def odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even")
    return value


@app.workflow
async def maps(values: list[int]) -> list[int]:
    found = await odd.map(values, concurrency=2, on_error="collect")
    return [one if isinstance(one, int) else -1 for one in found]


@pytest.mark.contract("step-map")
def test_a_map_collects_errors_in_order(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(maps, [1, 2, 3, 4, 5])
        assert await handle.result() == [1, -1, 3, -1, 5]
        kinds_of = [event.type async for event in handle.history()]
        assert kinds_of.count("StepCompleted") == 3
        assert kinds_of.count("StepFailed") == 2

    world.run(app, scenario)


@app.step
async def hangs() -> str:
    """Runs until it is told to end."""
    note("hangs")
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        note("told")
        raise
    return "ran on"


@app.workflow
async def holds(mode: str) -> str:
    return await (hangs.options(cancellation="wait") if mode == "wait" else hangs)()


@pytest.mark.contract("step-cancel")
@pytest.mark.parametrize("mode", ["try", "wait"])
def test_cancellation_reaches_the_running_step(world: World, mode: str) -> None:
    async def scenario(client: Client) -> None:
        told = False
        while not told:
            handle = await client.start(holds, mode)
            while f"{handle.workflow_id}/hangs" not in calls:
                await asyncio.sleep(0.01)
            await handle.cancel()
            while not (told := f"{handle.workflow_id}/told" in calls):
                if "StepHandedOver" in [event.type async for event in handle.history()]:
                    break  # Who carries it on is not told.
                await asyncio.sleep(0.01)
        with pytest.raises(RunCancelled):
            await handle.result()

    world.run(app, scenario)
