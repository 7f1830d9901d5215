"""The contract, "Many runs": flow control."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from orchestrator import Client, CommandRejected, Handle, Orchestrator, RunCancelled, StepTimeout, continue_as_new
from tests.contract.world import World

app = Orchestrator("contract-flow")
go = app.signal("go", int)
ONE = app.limit("one", concurrency=1)
TWO = app.limit("two", concurrency=2, key="tenant")


class Watch:
    """Who is at work, by key, and the most there ever were at once."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[Any] = []

    async def work(self, key: str, what: Any, seconds: float = 0.05) -> None:
        self.now[key] += 1
        self.most[key] = max(self.most[key], self.now[key])
        self.order.append(what)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.now[key] -= 1


watch = Watch()


@pytest.fixture(autouse=True)
def _afresh() -> None:
    watch.__init__()  # type: ignore[misc]


@app.step(limits=[TWO], isolation="thread")
async def call_model(tenant: str, number: int) -> int:
    await watch.work(tenant, number)
    return number


@app.workflow
async def calls(tenant: str, count: int) -> list[int]:
    return await asyncio.gather(*(call_model(tenant, number) for number in range(count)))


@pytest.mark.contract("flow-concurrency")
def test_a_limit_holds_over_runs_and_each_key_has_its_own(world: World) -> None:
    async def scenario(client: Client) -> None:
        handles = [await client.start(calls, tenant, 4) for tenant in ("a", "a", "b")]
        assert [await handle.result() for handle in handles] == [[0, 1, 2, 3]] * 3
        assert watch.most["a"] == 2
        assert watch.most["b"] == 2

    world.run(app, scenario)


@app.step(isolation="thread")
async def begun(number: int) -> None:
    watch.order.append(("began", number))


@app.workflow(limits=[ONE])
async def alone(number: int) -> int:
    await begun(number)
    await go.wait()
    return number


async def until(handle: Handle[Any], *statuses: str) -> None:
    while (await handle.describe()).status not in statuses:
        await asyncio.sleep(0.01)


@pytest.mark.contract("flow-concurrency")
def test_runs_wait_for_their_slot_in_order_and_say_so(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(alone.options(id="first"), 1)
        await until(first, "running")
        while not watch.order:
            await asyncio.sleep(0.01)
        others = [await client.start(alone.options(id=f"other-{n}"), n) for n in (2, 3)]
        for handle in others:
            found = await handle.describe()
            assert (found.status, found.why) == ("limited", "waits for a slot of limit one")
        await first.signal(go, 0)
        await others[0].signal(go, 0)
        assert await others[0].result() == 2
        await others[1].terminate()
        last = await client.start(alone.options(id="last"), 4)
        await last.signal(go, 0)
        assert await last.result() == 4
        assert watch.order[0] == ("began", 1)
        assert ("began", 3) not in watch.order or watch.order.index(("began", 3)) > watch.order.index(("began", 2))

    world.run(app, scenario)


@pytest.mark.contract("flow-concurrency")
def test_a_run_that_waits_for_a_slot_ends_at_once_when_it_is_cancelled(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(alone, 1)
        await until(first, "running")
        second, third = [await client.start(alone, n) for n in (2, 3)]
        await second.cancel()
        with pytest.raises(RunCancelled):
            await second.result()
        await first.signal(go, 0)
        await third.signal(go, 0)
        assert await third.result() == 3
        assert ("began", 2) not in watch.order

    world.run(app, scenario)


OLDEST = app.limit("oldest", concurrency=1, key="tenant", strategy="cancel_oldest")
NEWEST = app.limit("newest", key="tenant", singleton="skip")


@app.workflow(limits=[OLDEST])
async def newest_wins(tenant: str, number: int) -> int:
    await go.wait()
    return number


@app.workflow(limits=[NEWEST])
async def oldest_wins(tenant: str, number: int) -> int:
    await go.wait()
    return number


@pytest.mark.contract("flow-concurrency")
def test_cancel_oldest_makes_room_for_the_newest(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(newest_wins, "a", 1)
        await until(first, "running")
        other = await client.start(newest_wins, "b", 9)
        second = await client.start(newest_wins, "a", 2)
        with pytest.raises(RunCancelled):
            await first.result()
        await second.signal(go, 0)
        await other.signal(go, 0)
        assert (await second.result(), await other.result()) == (2, 9)
        requested = [event async for event in first.history() if event.type == "CancelRequested"]
        assert "cancel_oldest" in requested[0].body["reason"]

    world.run(app, scenario)


@pytest.mark.contract("flow-singleton")
def test_a_singleton_skips_a_second_run(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(oldest_wins, "a", 1)
        await until(first, "running")
        second = await client.start(oldest_wins, "a", 2)
        with pytest.raises(RunCancelled):
            await second.result()
        await first.signal(go, 0)
        assert await first.result() == 1
        third = await client.start(oldest_wins, "a", 3)
        await third.signal(go, 0)
        assert await third.result() == 3

    world.run(app, scenario)


@pytest.mark.contract("flow-concurrency")
def test_many_steps_at_once_ask_one_after_the_other_and_all_end(world: World) -> None:
    """Of a run only so many ask at a time: who is cancelled before it asked leaves nothing behind."""

    async def scenario(client: Client) -> None:
        ended, cut = await client.start(calls, "a", 60), await client.start(calls, "b", 60)
        while watch.order.count(1) < 1:
            await asyncio.sleep(0.01)
        await cut.terminate()
        assert await ended.result() == list(range(60))
        assert watch.most["a"] == 2
        while [one async for one in client.limits.list()]:
            await asyncio.sleep(0.01)

    world.run(app, scenario)


FAIR = app.limit("fair", concurrency=1, fairness="tenant", strategy="round_robin")
URGENT = app.limit("urgent", concurrency=1)


@app.step(limits=[FAIR], isolation="thread")
async def fair_step(tenant: str, number: int) -> None:
    await watch.work("fair", tenant, 0.01)


@app.workflow
async def fairly(tenant: str, count: int) -> None:
    await asyncio.gather(*(fair_step(tenant, number) for number in range(count)))


@app.step(limits=[URGENT], isolation="thread")
async def urgent_step(number: int) -> None:
    await watch.work("urgent", number, 0.05)


@app.workflow
async def urgently() -> None:
    await asyncio.gather(
        urgent_step(0),
        *(urgent_step(number) for number in (1, 2, 3)),
        urgent_step.options(priority=7)(7),
        urgent_step.options(priority=8)(8),
    )


@pytest.mark.contract("flow-concurrency")
def test_round_robin_takes_turns_over_tenants(world: World) -> None:
    async def scenario(client: Client) -> None:
        many = await client.start(fairly, "many", 40)
        while len(watch.order) < 3:
            await asyncio.sleep(0.01)
        await client.execute(fairly, "one", 1)
        assert watch.order.count("many") < 30
        await many.result()
        assert watch.most["fair"] == 1

    world.run(app, scenario)


@pytest.mark.contract("flow-priority")
def test_of_those_that_wait_a_higher_priority_comes_first(world: World) -> None:
    async def scenario(client: Client) -> None:
        await client.execute(urgently)
        assert watch.order == [0, 8, 7, 1, 2, 3]

    world.run(app, scenario)


RATE = app.limit("rate", rate=(3, timedelta(seconds=1)))
HOURLY = app.limit("hourly", rate=(3, timedelta(hours=1)))
SLOW = app.limit("slow", concurrency=1)
THROTTLE = app.limit("throttle", throttle=(10, "second"))
DEBOUNCE = app.limit("debounce", debounce=timedelta(seconds=0.5), key="tenant")
DROP = app.limit("drop", rate=(2, "hour"), key="tenant", strategy="cancel_newest")


@app.step(limits=[RATE], isolation="thread")
async def rated(number: int) -> None:
    watch.order.append(number)


@app.step(limits=[HOURLY, SLOW], isolation="thread")
async def slowly(number: int) -> None:
    watch.order.append(number)


@app.step(limits=[SLOW], isolation="thread")
async def only_slow(number: int) -> None:
    watch.order.append("slow")


@app.step(limits=[THROTTLE], isolation="thread")
async def throttled(number: int) -> None:
    watch.order.append(time.monotonic())


@app.workflow
async def rates(count: int) -> None:
    await asyncio.gather(*(rated(number) for number in range(count)))


@app.workflow
async def slow_ones(count: int) -> None:
    await asyncio.gather(*(slowly(number) for number in range(count)))


@app.workflow
async def slow_alone() -> None:
    await only_slow(1)


@app.workflow
async def throttles(count: int) -> None:
    await asyncio.gather(*(throttled(number) for number in range(count)))


@app.workflow(limits=[DEBOUNCE])
async def debounced(tenant: str, number: int) -> int:
    return number


@app.workflow(limits=[DROP])
async def dropped(tenant: str) -> str:
    return tenant


@pytest.mark.contract("flow-rate")
def test_a_rate_is_never_exceeded(world: World) -> None:
    async def scenario(client: Client) -> None:
        await client.execute(rates, 8)
        granted = await world.granted("rate")
        assert sorted(watch.order) == list(range(8))
        assert len({task for _, task in granted}) == len(granted) == 8
        at = [moment for moment, _ in granted]
        assert all(later - earlier >= 1_000 for earlier, later in zip(at, at[3:], strict=False)), at

    world.run(app, scenario)


@pytest.mark.contract("flow-waits")
def test_who_waits_for_a_rate_holds_no_slot_of_another_limit(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(slow_ones, 5)
        while len(watch.order) < 3:
            await asyncio.sleep(0.01)
        # Two of them wait for an hour: if one held the only slot of the other limit, this one would wait as long.
        await client.execute(slow_alone)
        assert watch.order[3:] == ["slow"]
        await handle.terminate()

    world.run(app, scenario)


@pytest.mark.contract("flow-throttle")
def test_a_throttle_spaces_evenly(world: World) -> None:
    async def scenario(client: Client) -> None:
        await client.execute(throttles, 4)
        at = [moment for moment, _ in await world.granted("throttle")]
        assert len(at) == 4
        assert all(later - earlier >= 100 for earlier, later in pairwise(at)), at

    world.run(app, scenario)


@pytest.mark.contract("flow-debounce")
def test_debounce_lets_the_newest_begin_once_nobody_asks_any_more(world: World) -> None:
    async def one_passed(client: Client, tenant: str) -> bool:
        handles = [await client.start(debounced, tenant, number) for number in range(3)]
        other = await client.start(debounced, f"beside {tenant}", 9)
        ends = await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)
        assert await other.result() == 9
        told = await world.asked("debounce")
        runs = [(await handle.describe()).run_id for handle in handles]
        moments = [[at for at, body in told if body.task.run_id == run] for run in runs]
        # Who waits while another asks does not begin; on a slow machine its time may have been over.
        passed = [later[0] - asked[0] < 500 for asked, later in pairwise(moments)]
        assert [isinstance(end, RunCancelled) for end in ends] == [*passed, False]
        assert all(granted - asked >= 500 for asked, granted in (one for one in moments if len(one) == 2))
        assert ends[2] == 2
        return any(passed)

    async def scenario(client: Client) -> None:
        for number in range(20):
            if await one_passed(client, f"tenant {number}"):
                return
        raise AssertionError("nobody asked in time")

    world.run(app, scenario)


@pytest.mark.contract("flow-rate")
def test_a_rate_that_gives_up_refuses_what_is_too_much(world: World) -> None:
    async def scenario(client: Client) -> None:
        assert [await client.execute(dropped, "a") for _ in range(2)] == ["a", "a"]
        with pytest.raises(RunCancelled):
            await client.execute(dropped, "a")
        assert await client.execute(dropped, "b") == "b"

    world.run(app, scenario)


@pytest.mark.contract("flow-concurrency")
def test_slots_and_queues_survive_a_restart(world: World) -> None:
    async def scenario(client: Client) -> None:
        handles = [await client.start(alone, number) for number in range(3)]
        while [one.held + one.waiting async for one in client.limits.list()] != [3]:
            await asyncio.sleep(0.01)
        before = await client.limits.describe("one")
        await world.restart()
        after = await client.limits.describe("one")
        assert (after.holders, after.queue) == (before.holders, before.queue)
        assert len(after.queue) == 2
        for handle in handles:
            await handle.signal(go, 0)
        assert [await handle.result() for handle in handles] == [0, 1, 2]
        while [one async for one in client.limits.list()]:
            await asyncio.sleep(0.01)

    world.run(app, scenario)


@app.workflow(limits=[ONE])
async def again(left: int) -> int:
    if left:
        continue_as_new(left - 1)
    return left


@app.workflow
async def parent(count: int) -> list[int]:
    return await asyncio.gather(*(again(number) for number in range(count)))


@pytest.mark.contract("flow-concurrency")
def test_children_and_runs_that_go_on_as_new_ask_too(world: World) -> None:
    async def scenario(client: Client) -> None:
        assert await client.execute(parent, 3) == [0, 0, 0]
        while [one async for one in client.limits.list()]:
            await asyncio.sleep(0.01)

    world.run(app, scenario)


@app.step(limits=[ONE], isolation="thread", schedule_to_start=timedelta(milliseconds=200), retry=1)
async def impatient(number: int) -> int:
    return number


@app.workflow
async def cannot_wait() -> str:
    try:
        return str(await impatient(1))
    except StepTimeout as error:
        return str(error)


@pytest.mark.contract("flow-concurrency")
def test_a_step_that_waits_too_long_for_a_slot_leaves_the_queue(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(alone, 1)
        while [one.held async for one in client.limits.list()] != [1]:
            await asyncio.sleep(0.01)
        assert "schedule_to_start" in await client.execute(cannot_wait)
        assert (await client.limits.describe("one")).waiting == 0
        await first.signal(go, 0)
        assert await first.result() == 1

    world.run(app, scenario)


@pytest.mark.contract("flow-concurrency", "waits-for-code")
def test_a_start_that_nobody_had_code_for_asks_when_its_code_is_deployed(world: World) -> None:
    old = Orchestrator("contract-flow-pin")

    @old.workflow
    async def something() -> None:
        """Of the release that lacks the limited workflow."""

    new = Orchestrator("contract-flow-pin")
    late = new.limit("late", concurrency=1, key="tenant")

    @new.workflow(limits=[late])
    async def limited(tenant: str) -> str:
        return tenant

    async def scenario(client: Client) -> None:
        handle = await client.start(limited, "a")
        while "waits for code" not in (await handle.describe()).why:
            await asyncio.sleep(0.01)
        await world.deploy(new)
        assert await handle.result() == "a"
        assert "RunAdmitted" in [event.type async for event in handle.history()]

    world.run(old, scenario)


@pytest.mark.contract("flow-concurrency")
def test_a_key_that_cannot_be_told_refuses_the_start(world: World) -> None:
    broken = Orchestrator("contract-flow-key")
    limit = broken.limit("broken", concurrency=1, key=lambda tenant: tenant[99])

    @broken.workflow(limits=[limit])
    async def limited(tenant: str) -> str:
        return tenant

    async def scenario(client: Client) -> None:
        with pytest.raises(CommandRejected, match="IndexError"):
            await client.start(limited, "a")

    world.run(broken, scenario)
