"""Fork, reset, resume after a failure: a new run goes on from a point of an old one, and nothing is paid twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import (
    Client,
    CommandRejected,
    Handle,
    Orchestrator,
    RetryPolicy,
    Selection,
    now,
    random,
    run_info,
    step_info,
)
from tests.contract.test_change import steps_in_order
from tests.contract.world import World

app = Orchestrator("forks")
go = app.signal("go", int)
paid: Counter[str] = Counter()
broken: set[str] = set()
again = RetryPolicy(max_attempts=1)


@app.error
class Declined(Exception):
    pass


@app.step(retry=again)
async def pays(what: str) -> str:
    paid[what] += 1
    if what in broken:
        raise Declined(what)
    return f"paid {what}"


@app.step
async def key() -> str:
    return step_info().idempotency_key


@app.workflow
async def trip(who: str) -> list[str]:
    first = await pays(f"{who} flight")
    both = await asyncio.gather(pays(f"{who} hotel"), pays(f"{who} car"))
    await asyncio.sleep(0.01)
    last = await pays(f"{who} dinner")
    return [first, *both, last, who]


@app.workflow
async def chances() -> list[Any]:
    found: list[Any] = [now().timestamp(), random().random(), random("x").random()]
    await pays("chance")
    found.append(await key())
    found += [random().random(), random("x").random(), run_info().run_id]
    return found


@app.workflow
async def talks() -> list[int]:
    return [await go.wait(), await go.wait(), await go.wait()]


@app.workflow
async def inner(value: int) -> int:
    await pays(f"inner {value}")
    return value + await go.wait()


@app.workflow
async def outer() -> int:
    await pays("outer")
    return await inner(5)


@app.workflow
async def sleeps() -> str:
    await pays("before")
    await asyncio.sleep(600)
    return await pays("after")


async def story(handle: Handle[Any]) -> list[str]:
    return [event.type async for event in handle.history()]


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    paid.clear()
    broken.clear()


@pytest.mark.contract("fork")
def test_what_was_recorded_before_the_step_is_reused(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(trip.options(id="trip"), "eva")
        whole = await handle.result()
        fork = await handle.fork("pays")
        assert fork.run_id != handle.run_id
        assert await fork.result() == whole
        assert paid == {"eva flight": 1, "eva hotel": 1, "eva car": 1, "eva dinner": 2}
        assert await client.handle(trip, "trip").result() == whole
        assert await handle.result() == whole, "the original is as it was"
        first, *others = [event async for event in fork.history()]
        upto = first.body["forked_upto"]
        assert first.body["previous_run_id"] == handle.run_id
        assert [event.seq for event in others if "copied_at_ms" in event.raw] == list(range(2, upto + 1))
        old = [(event.type, event.at_ms, event.body) async for event in handle.history()]
        assert [(event.type, event.at_ms, event.body) for event in others[: upto - 1]] == old[1:upto]

    world.run(app, scenario)


@pytest.mark.contract("fork", "reset")
def test_a_fork_at_every_step_and_event_comes_to_the_same_result(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(trip.options(id="trip"), "eva")
        whole = await handle.result()
        recorded = await story(handle)
        length = len(recorded)
        for event in range(1, length + 1):
            fork = await handle.reset(event=event)
            assert await fork.result() == whole, event
            assert (await story(fork))[-1] == "RunCompleted"
        assert paid["eva flight"] == 1 + recorded.index("StepCompleted")
        with pytest.raises(CommandRejected, match=f"it has {length} events") as refused:
            await handle.reset(event=length + 1)
        assert refused.value.code == "no_such_point"

    world.run(app, scenario)


@pytest.mark.contract("fork")
def test_the_input_may_be_edited(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(trip.options(id="trip"), "eva")
        await handle.result()
        fork = await handle.fork("pays", arguments=("ada",))
        assert await fork.result() == ["paid eva flight", "paid eva hotel", "paid eva car", "paid ada dinner", "ada"]
        assert paid["ada dinner"] == 1

    world.run(app, scenario)


@pytest.mark.contract("fork")
def test_chance_is_kept_before_the_fork_and_new_behind_it(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(chances.options(id="chance"))
        one = await handle.result()
        fork = await handle.fork("key")
        two = await fork.result()
        assert two[:3] == one[:3]
        assert [new != old for new, old in zip(two[3:], one[3:], strict=True)] == [True] * 4
        assert two[-1] == fork.run_id
        assert fork.run_id in two[3], "a step that runs anew has a key of its own"

    world.run(app, scenario)


@pytest.mark.contract("fork")
def test_an_open_run_ends_and_its_handles_follow(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(outer.options(id="outer"))
        child = ""
        while not child:
            children = (await handle.describe()).raw["pending_children"]
            child = children[0]["workflow_id"] if children and children[0]["run_id"] else ""
        fork = await handle.reset(event=len(await story(handle)))
        assert (await handle.describe()).status == "continued_as_new"
        new_child = ""
        while not new_child:
            children = (await fork.describe()).raw["pending_children"]
            new_child = children[0]["workflow_id"] if children and children[0]["run_id"] else ""
        assert new_child != child, "what had no outcome begins anew"
        await client.handle(inner, new_child).signal(go, 2)
        assert await handle.result() == 7
        assert paid["outer"] == 1
        assert (await client.handle(inner, child).describe()).status == "terminated"

    world.run(app, scenario)


@pytest.mark.contract("resume-failed")
def test_a_failed_run_goes_on_from_its_failed_step(world: World) -> None:
    async def scenario(client: Client) -> None:
        broken.add("eva dinner")
        handle = await client.start(trip.options(id="trip"), "eva")
        with pytest.raises(Declined):
            await handle.result()
        broken.clear()
        fork = await handle.reset()
        assert (await fork.result())[3] == "paid eva dinner"
        assert paid == {"eva flight": 1, "eva hotel": 1, "eva car": 1, "eva dinner": 2}
        with pytest.raises(CommandRejected, match="it has not failed"):
            await fork.reset()

    world.run(app, scenario)


@pytest.mark.contract("resume-failed")
def test_of_steps_side_by_side_only_the_failed_one_is_done_again(world: World) -> None:
    async def scenario(client: Client) -> None:
        broken.add("eva car")
        handle = await client.start(trip.options(id="trip"), "eva")
        with pytest.raises(Declined):
            await handle.result()
        broken.clear()
        assert (await (await handle.reset()).result())[2] == "paid eva car"
        assert paid["eva flight"] == 1
        assert paid["eva car"] == 2

    world.run(app, scenario)


@pytest.mark.contract("reset")
@pytest.mark.parametrize("keep", [True, False])
def test_signals_after_the_point_are_kept_or_not(world: World, keep: bool) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(talks.options(id="talks"))
        for value in (1, 2):
            await handle.signal(go, value)
        fork = await handle.reset(event=2, keep_signals=keep)
        for value in (3, 4):
            await client.handle(talks, "talks").signal(go, value)
            if keep:
                break
        assert await fork.result() == ([1, 2, 3] if keep else [1, 3, 4])

    world.run(app, scenario)


@pytest.mark.contract("reset")
def test_a_timer_keeps_its_moment_and_a_restart_changes_nothing(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sleeps.options(id="sleeps"))
        while "TimerSet" not in (found := await story(handle)):
            await asyncio.sleep(0.01)
        fork = await handle.reset(event=len(found))
        await world.restart()
        again = await client.handle(sleeps, "sleeps").using(timeout=timedelta(seconds=30)).describe()
        assert (again.run_id, again.status) == (fork.run_id, "running")
        assert "waits for a timer" in again.why
        assert paid == {"before": 1}
        await fork.terminate()

    world.run(app, scenario)


@pytest.mark.contract("fork")
def test_the_same_command_forks_once(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(trip.options(id="trip"), "eva")
        await handle.result()
        one = await handle.using(command_id="once").fork("pays")
        two = await handle.using(command_id="once").fork("pays")
        assert one.run_id == two.run_id
        await one.result()
        assert paid["eva dinner"] == 2
        with pytest.raises(CommandRejected, match="no step 'flies'"):
            await handle.fork("flies")

    world.run(app, scenario)


@pytest.mark.contract("bulk")
def test_failed_runs_are_reset_in_bulk_after_a_dry_run(world: World) -> None:
    async def scenario(client: Client) -> None:
        who = ["ann", "bob", "cat"]
        broken.update(f"{name} dinner" for name in who)
        handles = [await client.start(trip.options(id=name), name) for name in who]
        for handle in handles:
            with pytest.raises(Declined):
                await handle.result()
        broken.clear()
        shown = await client.batch("reset", Selection(workflow_type="trip"), dry_run=True)
        assert sorted(one.workflow_id for one in shown) == who
        assert paid["bob dinner"] == 1
        done = await client.batch("reset", Selection(workflow_type="trip"))
        assert [one.outcome for one in done] == ["done"] * 3
        for name in who:
            assert (await client.handle(trip, name).result())[-1] == name
        assert paid["bob dinner"] == 2
        assert paid["bob flight"] == 1

    world.run(app, scenario)


@pytest.mark.contract("fork")
def test_at_the_desk_a_diverged_run_goes_on_from_its_last_equal_step(world: World) -> None:
    """The code was edited behind step one: what step one gave stays, the rest is done anew, open handles follow."""
    before, flow, go = steps_in_order("one", "two")
    after, _, _ = steps_in_order("one", "extra", "two")

    async def scenario(client: Client) -> None:
        handle = await client.start(flow)
        while (await story(handle)).count("StepCompleted") < 2:
            await asyncio.sleep(0.02)
        await world.deploy(after)
        await client.handle(flow, handle.workflow_id).signal(go, 5)
        assert await handle.result() == 1 + 2 + 2 + 5
        assert (await handle.describe()).status == "continued_as_new"
        fork = [event async for event in client.handle(flow, handle.workflow_id).history()]
        assert fork[0].body["reason"] == "its code diverged"
        scheduled = [event for event in fork if event.type == "StepScheduled"]
        assert [event.body["name"] for event in scheduled] == ["one", "extra", "two"]
        assert ["copied_at_ms" in event.raw for event in scheduled] == [True, False, False]

    world.run(before, scenario, forks_diverged=True)


gate = app.limit("gate", concurrency=1)


@app.workflow(limits=[gate])
async def gated(who: str) -> str:
    await pays(who)
    await go.wait()
    return who


@pytest.mark.contract("fork")
def test_a_fork_of_a_limited_run_waits_for_a_slot_of_its_own(world: World) -> None:
    async def scenario(client: Client) -> None:
        one = await client.start(gated.options(id="one"), "one")
        while "StepCompleted" not in await story(one):
            await asyncio.sleep(0.01)
        await one.signal(go, 1)
        assert await one.result() == "one"
        two = await client.start(gated.options(id="two"), "two")
        while "StepCompleted" not in await story(two):
            await asyncio.sleep(0.01)
        fork = await one.reset(event=await _of(one, "StepCompleted"), keep_signals=False)
        assert (await fork.describe()).status == "limited"
        await two.signal(go, 1)
        await two.result()
        await fork.signal(go, 1)
        assert await fork.result() == "one"
        assert paid == {"one": 1, "two": 1}

    world.run(app, scenario)


async def _of(handle: Handle[Any], kind: str) -> int:
    return (await story(handle)).index(kind) + 1
