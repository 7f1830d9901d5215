"""The contract, "Versions": releases live side by side while engines are replaced one by one."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from orchestrator import Client, Handle, Orchestrator, continue_as_new, deprecate_patch, patched, run_info
from tests.contract.world import World

RUNS = 6


class Release(NamedTuple):
    """One release of the application."""

    app: Orchestrator
    order: Any
    loops: Any


def release(version: int = 1, patch: str = "") -> Release:
    """Release 2 has another order of steps; `patch` is how the code of release 1 knows of a change."""
    app = Orchestrator("contract-versions")
    go = app.signal("go", int)

    @app.step
    async def work(what: str) -> str:
        return what

    async def first() -> list[str]:
        done = [await work("old")]
        await go.wait()
        if patch == "deprecated":
            deprecate_patch("better")
        new = patched("better") if patch == "patched" else bool(patch)
        return [*done, await work("new side" if new else "old side")]

    @app.workflow(name="order", version=version)
    async def order() -> list[str]:
        if version == 1:
            return await first()
        await go.wait()
        return [await work("new"), await work("newer")]

    if version > 1:

        @order.older(version=1)
        async def order_1() -> list[str]:
            return await first()

    @app.workflow(name="loops", version=version)
    async def loops(versions: list[int]) -> list[int]:
        versions = [*versions, run_info().version]
        if len(versions) == 1:
            await go.wait()
            continue_as_new(versions)
        return versions

    if version > 1:

        @loops.older(version=1)
        async def loops_1(versions: list[int]) -> list[int]:
            await go.wait()
            continue_as_new([*versions, run_info().version])

    return Release(app, order, loops)


async def until(handle: Handle[Any], kind: str, count: int = 1) -> None:
    """Wait until so many events of a kind are in the history."""
    while [event.type async for event in handle.history()].count(kind) < count:
        await asyncio.sleep(0.02)


async def told(handle: Handle[Any], old: Release) -> Any:
    """Send the signal that the run waits for, and wait for its result."""
    await handle.signal(old.app.signal("go", int), 1)
    return await handle.result()


@pytest.mark.contract("version", "rolling")
def test_a_run_goes_on_with_the_version_it_began_with(world: World) -> None:
    old, new = release(), release(2)

    async def scenario(client: Client) -> None:
        await world.at_least(3)
        before = await client.start(old.order)
        looping = await client.start(old.loops, [])
        await until(before, "StepCompleted")
        await world.deploy(new.app)
        after = await client.start(old.order)
        assert await told(before, old) == ["old", "old side"]
        assert await told(after, old) == ["new", "newer"]
        assert await told(looping, old) == [1, 2], "continue-as-new goes on with the newest version"
        assert ((await before.describe()).version, (await after.describe()).version) == (1, 2)

    world.run(old.app, scenario)


@pytest.mark.contract("rolling", "version")
def test_runs_of_both_versions_end_whatever_engine_meets_them_in_between(world: World) -> None:
    old, new = release(), release(2)
    results = {1: ["old", "old side"], 2: ["new", "newer"]}

    async def scenario(client: Client) -> None:
        await world.at_least(3)
        runs = [await client.start(old.order) for _ in range(RUNS)]
        for _ in range(3):
            await world.deploy(new.app, 1)
            runs += [await client.start(old.order) for _ in range(RUNS)]
        ends = await asyncio.gather(*(told(run, old) for run in runs))
        versions = [(await run.describe()).version for run in runs]
        assert ends == [results[version] for version in versions]
        assert versions[:RUNS] == [1] * RUNS
        assert versions[-RUNS:] == [2] * RUNS

    world.run(old.app, scenario)


@pytest.mark.contract("rolling", "waits-for-code")
def test_a_run_whose_version_its_engine_lacks_waits_for_code(world: World) -> None:
    old, new = release(), release(2)

    async def scenario(client: Client) -> None:
        await world.deploy(new.app)
        run = await client.start(old.order)
        await world.deploy(old.app)
        await run.signal(old.app.signal("go", int), 1)
        while "waits for code: this engine has no order version 2" not in (await run.describe()).why:
            await asyncio.sleep(0.02)
        await world.deploy(new.app)
        assert await run.result() == ["new", "newer"]

    world.run(old.app, scenario)


@pytest.mark.contract("patch")
def test_a_patch_leaves_runs_that_are_past_it_as_they_were(world: World) -> None:
    old, new = release(), release(patch="patched")

    async def scenario(client: Client) -> None:
        await world.at_least(3)
        past, before = await client.start(old.order), await client.start(old.order)
        await until(past, "StepCompleted")
        await until(before, "StepCompleted")
        await past.signal(old.app.signal("go", int), 1)
        assert await past.result() == ["old", "old side"]
        await world.deploy(new.app)
        assert await told(before, old) == ["old", "new side"]
        assert (await before.describe()).raw["patches"] == ["better"]
        markers = [event.body async for event in before.history() if event.type == "RunPatched"]
        assert [(one["patch"], one["deprecated"]) for one in markers] == [("better", False)]

    world.run(old.app, scenario)


def gated(patch: str) -> Release:
    """As `release`, but the patched line comes before the wait."""
    app = Orchestrator("contract-versions")
    go = app.signal("go", int)

    @app.step
    async def work(what: str) -> str:
        return what

    @app.workflow(name="order")
    async def order() -> list[str]:
        if patch == "deprecated":
            deprecate_patch("better")
        new = patched("better") if patch == "patched" else patch in ("deprecated", "removed")
        done = [await work("new side" if new else "old side")]
        await go.wait()
        return [*done, await work("end")]

    return Release(app, order, None)


@pytest.mark.contract("patch", "rolling")
def test_a_patched_run_that_comes_back_to_an_old_engine_waits_for_code(world: World) -> None:
    old, new = gated(""), gated("patched")

    async def scenario(client: Client) -> None:
        await world.deploy(new.app)
        run = await client.start(old.order)
        await until(run, "StepCompleted")
        await world.deploy(old.app)
        await run.signal(old.app.signal("go", int), 1)
        while "waits for code: history has patch 'better'" not in (await run.describe()).why:
            await asyncio.sleep(0.02)
        assert (await run.describe()).status == "running"
        await world.deploy(new.app)
        assert await run.result() == ["new side", "end"]
        assert "RunParked" not in [event.type async for event in run.history()]

    world.run(old.app, scenario)


@pytest.mark.contract("patch")
def test_a_deprecated_patch_may_be_removed_in_the_next_release(world: World) -> None:
    releases = [gated(patch) for patch in ("", "patched", "deprecated", "removed")]

    async def scenario(client: Client) -> None:
        await world.at_least(3)
        sides = []
        for at, _ in enumerate(releases):
            run = await client.start(releases[0].order)
            await until(run, "StepCompleted")
            if at == 0 or at == len(releases) - 1:
                sides.append(await told(run, releases[0]))
                await world.deploy(releases[min(at + 1, len(releases) - 1)].app)
                continue
            await world.deploy(releases[at + 1].app)
            sides.append(await told(run, releases[0]))
        assert sides == [["old side", "end"], *[["new side", "end"]] * 3]

    world.run(releases[0].app, scenario)
