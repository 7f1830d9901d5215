"""The contract, "Many runs": a run that goes on as another one, or is forked, asks as a start of it would."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator import Client, CommandRejected, Handle, Orchestrator, RunParked, continue_as_new
from orchestrator.core.apply.lane import ASK_AT_ONCE
from orchestrator.core.events import RunStarted, SlotsAwaited
from orchestrator.core.values import LimitNeed
from tests.contract.world import World


def release(at_once: int, broken: bool = False) -> Any:
    """An application whose runs count for their tenant; a `broken` one cannot tell which slot "bad" needs."""
    app = Orchestrator("contract-flow-next")
    go = app.signal("go", str)

    def tenant_of(tenant: str) -> str:
        if broken and tenant == "bad":
            raise KeyError(tenant)
        return tenant

    limit = app.limit("tenants", concurrency=at_once, key=tenant_of)

    @app.step
    async def said(what: str) -> str:
        return what

    @app.workflow(name="works", limits=[limit])
    async def works(tenant: str) -> str:
        await said(tenant)
        other = await go.wait()
        if other:
            continue_as_new(other)
        return tenant

    return app, works, go


async def needs(world: World, workflow_id: str) -> list[tuple[LimitNeed, ...]]:
    """What the runs of a workflow asked for, oldest first."""
    events = [event for part in await world.events() for event in part if event.workflow_id == workflow_id]
    return [event.body.limits for event in events if isinstance(event.body, RunStarted)]


async def until(handle: Handle[Any], status: str, why: str = "") -> None:
    while (found := await handle.describe()).status != status or why not in found.why:
        await asyncio.sleep(0.01)


async def ends(handle: Handle[Any], go: Any) -> str:
    """Let a run end; a fork from before its step has no signal of it."""
    while "StepCompleted" not in [event.type async for event in handle.history()]:
        await asyncio.sleep(0.01)
    await handle.signal(go, "")
    return str(await handle.result())


@pytest.mark.contract("flow-concurrency")
def test_a_run_that_goes_on_with_other_arguments_counts_under_their_key(world: World) -> None:
    app, works, go = release(1)

    async def scenario(client: Client) -> None:
        first = await client.start(works.options(id="first", priority=3), "a")
        await until(first, "running")
        behind = await client.start(works.options(id="behind"), "a")
        other = await client.start(works.options(id="other"), "b")
        await until(other, "running")
        await first.signal(go, "b")
        await until(behind, "running")
        newest = client.handle(works, "first")
        await until(newest, "limited", "tenants [b]")
        await other.signal(go, "")
        await newest.signal(go, "")
        assert await first.result() == "b"
        assert [(need.key, need.priority) for (need,) in await needs(world, "first")] == [("a", 3), ("b", 3)]
        await behind.terminate()

    world.run(app, scenario)


@pytest.mark.contract("flow-concurrency")
def test_the_next_run_is_limited_as_the_newest_code_says(world: World) -> None:
    old, works, go = release(1)
    new, _, _ = release(2)

    async def scenario(client: Client) -> None:
        handle = await client.start(works.options(id="one"), "a")
        await until(handle, "running")
        await world.deploy(new)
        await handle.signal(go, "a")
        await client.handle(works, "one").signal(go, "")
        assert await handle.result() == "a"
        assert [need.concurrency for (need,) in await needs(world, "one")] == [1, 2]

    world.run(old, scenario)


@pytest.mark.contract("flow-concurrency", "bugs")
def test_a_key_that_cannot_be_told_of_the_next_run_parks_this_one_until_it_is_mended(world: World) -> None:
    app, works, go = release(1, broken=True)
    mended, _, _ = release(1)

    async def scenario(client: Client) -> None:
        handle = await client.start(works.options(id="one"), "a")
        await handle.signal(go, "bad")
        with pytest.raises(RunParked, match=r"limits: KeyError: 'bad'"):
            await handle.result()
        assert (await handle.describe()).raw["parked"]["kind"] == "bug"
        await world.deploy(mended)
        await handle.retry()
        await client.handle(works, "one").signal(go, "")
        assert await handle.result() == "bad"

    world.run(app, scenario)


@pytest.mark.contract("flow-concurrency", "fork")
def test_a_fork_with_other_arguments_counts_under_their_key(world: World) -> None:
    app, works, go = release(1, broken=True)

    async def scenario(client: Client) -> None:
        handle = await client.start(works.options(id="one"), "a")
        assert await ends(handle, go) == "a"
        other = await client.start(works.options(id="other"), "b")
        await until(other, "running")
        with pytest.raises(CommandRejected, match=r"limits: KeyError: 'bad'") as refused:
            await handle.fork("said", arguments=("bad",))
        assert refused.value.code == "bad_request"
        fork = await handle.fork("said", arguments=("b",))
        await until(fork, "limited", "tenants [b]")
        await other.signal(go, "")
        await fork.signal(go, "")
        assert await fork.result() == "b"
        assert [need.key for (need,) in await needs(world, "one")] == ["a", "b"]

    world.run(app, scenario)


@pytest.mark.contract("flow-concurrency", "fork", "waits-for-code")
def test_a_fork_of_a_run_that_had_waited_for_its_code_asks_too(world: World) -> None:
    app, works, go = release(1)
    old = Orchestrator(app.name)

    @old.step
    async def said(what: str) -> str:
        """A worker keeps to the release that it began with."""
        return what

    async def scenario(client: Client) -> None:
        handle = await client.start(works.options(id="one"), "a")
        await until(handle, "running", "waits for code")
        await world.deploy(app)
        assert await ends(handle, go) == "a"
        for arguments, key in (None, "a"), (("b",), "b"):
            fork = await handle.fork("said", arguments=arguments)
            await fork.signal(go, "")
            assert await fork.result() == key
            assert (await needs(world, "one"))[-1][0].key == key

    world.run(old, scenario)


@pytest.mark.contract("flow-concurrency", "fork")
def test_without_its_code_a_fork_keeps_its_key_or_is_refused(world: World) -> None:
    app, works, go = release(1)
    lacks = Orchestrator(app.name)

    async def scenario(client: Client) -> None:
        handle = await client.start(works.options(id="one"), "a")
        assert await ends(handle, go) == "a"
        await world.deploy(lacks)
        with pytest.raises(CommandRejected, match="version 1 of works") as refused:
            await handle.fork("said", arguments=("b",))
        assert refused.value.code == "bad_request"
        fork = await handle.fork("said")
        await world.deploy(app)
        await fork.signal(go, "")
        assert await fork.result() == "a"
        assert [need.key for (need,) in await needs(world, "one")] == ["a", "a"]

    world.run(app, scenario)


def many_steps(at_once: int) -> Any:
    """A release whose steps and runs share a limit of so many."""
    app = Orchestrator("contract-flow-numbers")
    go = app.signal("go", str)
    limit = app.limit("shared", concurrency=at_once)

    @app.step(limits=[limit])
    async def limited(number: int) -> int:
        return number

    @app.workflow(name="many")
    async def many(count: int) -> int:
        return sum(await asyncio.gather(*(limited(number) for number in range(count))))

    @app.workflow(name="holds", limits=[limit])
    async def holds() -> str:
        return await go.wait()

    return app, many, holds, go


@pytest.mark.contract("flow-concurrency")
def test_what_was_called_before_a_deploy_and_asks_after_it_counts_by_the_new_numbers(world: World) -> None:
    old, many, holds, go = many_steps(2)
    new, _, _, _ = many_steps(1)
    count = ASK_AT_ONCE + 4

    async def scenario(client: Client) -> None:
        holders = [await client.start(holds) for _ in range(2)]
        for holder in holders:
            await until(holder, "running")
        run = await client.start(many, count)
        while [one.waiting async for one in client.limits.list()] != [ASK_AT_ONCE]:
            await asyncio.sleep(0.01)
        await world.deploy(new)
        for holder in holders:
            await holder.signal(go, "")
        assert await run.result() == sum(range(count))
        said = [body for _, body in await world.asked("shared") if isinstance(body, SlotsAwaited) and body.task.step]
        assert [body.needs[0].concurrency for body in said] == [2] * ASK_AT_ONCE + [1] * 4

    world.run(old, scenario)
