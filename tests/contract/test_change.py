"""The contract, "Change and limits": divergence, bugs, bugs that must not reach others, and commands gone astray."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from orchestrator import (
    Client,
    Handle,
    Orchestrator,
    RunFailed,
    RunParked,
    WorkflowFailed,
)
from orchestrator.log.partitioner import partition_of
from tests.contract.world import World

NAME = "contract-change"
CHANGES = {
    "added": (["one", "extra", "two"], r"at step 0:2: history has step 'two'.*, the code now does step 'extra'"),
    "removed": (["two", "three"], r"at step 0:1: history has step 'one'.*, the code now does step 'two'"),
    "renamed": (["uno", "two"], r"at step 0:1: history has step 'one'.*, the code now does step 'uno'"),
    "re-ordered": (["two", "one"], r"at step 0:1: history has step 'one'.*, the code now does step 'two'"),
    "arguments": (["one", "two"], r'at step 0:2: .*with other arguments: \{"n":9\}, not \{"n":2\}'),
}


def steps_in_order(*names: str, second: int = 2) -> Any:
    """An application whose workflow `flow` calls these steps, then waits."""
    app = Orchestrator(NAME)
    go = app.signal("go", int)

    def step(name: str) -> Any:
        @app.step(name=name)
        async def work(n: int) -> int:
            return n

        return work

    known = {name: step(name) for name in ("one", "two", "three", "extra", "uno")}

    @app.workflow(name="flow")
    async def flow() -> int:
        done = [await known[name](1 if at == 0 else second) for at, name in enumerate(names)]
        return sum(done) + await go.wait()

    return app, flow, go


async def parked(handle: Handle[Any]) -> str:
    """Wait until the run stands still; why."""
    with pytest.raises(RunParked) as caught:
        await handle.result()
    return str(caught.value)


async def until(handle: Handle[Any], kind: str, count: int) -> None:
    """Wait until so many events of a kind are in the history."""
    while [event.type async for event in handle.history()].count(kind) < count:
        await asyncio.sleep(0.02)


@pytest.mark.contract("divergence")
@pytest.mark.parametrize("change", CHANGES)
def test_a_divergence_is_found_at_its_place_and_a_fix_resumes_the_run(world: World, change: str) -> None:
    names, message = CHANGES[change]
    app, flow, go = steps_in_order("one", "two")
    other, _, _ = steps_in_order(*names, second=9 if change == "arguments" else 2)

    async def scenario(client: Client) -> None:
        handle = await client.start(flow)
        await until(handle, "StepCompleted", 2)
        await world.deploy(other)
        await handle.signal(go, 10)
        assert re.search(message, await parked(handle))
        description = await handle.describe()
        assert description.raw["parked"]["kind"] == "diverged"
        assert description.why.startswith("parked (diverged): at step")
        await world.deploy(app)
        await handle.retry()
        assert await handle.result() == 13
        kinds = [event.type async for event in handle.history()]
        assert kinds.count("StepScheduled") == 2

    world.run(app, scenario)


def bugs(broken: bool) -> Any:
    """Workflows that fail, park or end, before and after a fix."""
    app = Orchestrator(NAME)

    @app.error
    class Declined(Exception):
        """A declared error."""

    @app.step
    async def tried_again(how: str) -> str:
        raise RuntimeError(f"of the step: {how}")

    @app.step(retry=1)
    async def work(how: str) -> str:
        if how == "uncaught":
            raise RuntimeError("of the step")
        if how == "declared":
            raise Declined("of the step")
        return how

    @app.workflow(name="child")
    async def child(how: str) -> str:
        return await work(how)

    @app.workflow(name="ends")
    async def ends(how: str) -> str:
        first = await work("fine")
        if how == "child":
            return await child("uncaught")
        if how == "on purpose":
            raise WorkflowFailed("on purpose")
        if how == "declared here":
            raise Declined("here")
        if how == "bug":
            if broken:
                raise KeyError("a bug")
            return f"{first}, mended"
        if how == "endless":
            while broken:
                pass
            return f"{first}, mended"
        return await tried_again(how) if how == "for ever" else await work(how)

    @app.workflow(name="fails", on_bug="fail")
    async def fails() -> str:
        await work("fine")
        raise KeyError("a bug")

    return app, ends, fails, Declined


@pytest.mark.contract("bugs")
@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("uncaught", "RuntimeError", "of the step"),
        ("child", "RuntimeError", "of the step"),
        ("on purpose", "WorkflowFailed", "on purpose"),
        ("declared", "Declined", "of the step"),
        ("declared here", "Declined", "here"),
    ],
)
def test_an_error_of_a_step_or_child_or_a_declared_one_fails_the_run(
    world: World, how: str, kind: str, says: str
) -> None:
    app, ends, _, _ = bugs(True)

    async def scenario(client: Client) -> None:
        handle = await client.start(ends, how)
        with pytest.raises(Exception, match=says) as caught:
            await handle.result()
        found = caught.value
        assert (found.type if isinstance(found, RunFailed) else type(found).__name__) == kind
        assert (await handle.describe()).status == "failed"

    world.run(app, scenario)


@pytest.mark.contract("bugs")
def test_any_other_exception_parks_the_run_until_a_fixed_deploy(world: World) -> None:
    app, ends, fails, _ = bugs(True)
    fixed, *_ = bugs(False)

    async def scenario(client: Client) -> None:
        handle = await client.start(ends, "bug")
        said = await parked(handle)
        assert "KeyError: 'a bug'" in said
        assert "test_change.py" in said
        with pytest.raises(RunFailed, match="a bug"):
            await client.execute(fails)
        await world.deploy(fixed)
        await handle.retry()
        assert await handle.result() == "fine, mended"
        assert [event.type async for event in handle.history()].count("StepCompleted") == 1

    world.run(app, scenario)


@pytest.mark.contract("bugs-endless")
def test_an_endless_turn_is_ended_and_others_go_on(world: World) -> None:
    app, ends, _, _ = bugs(True)
    fixed, *_ = bugs(False)

    async def scenario(client: Client) -> None:
        handle = await client.start(ends, "endless")
        others = [await client.start(ends, f"other {number}") for number in range(4)]
        assert await asyncio.gather(*(other.result() for other in others)) == [f"other {n}" for n in range(4)]
        assert "longer than a second" in await parked(handle)
        await world.deploy(fixed)
        await handle.retry()
        assert await handle.result() == "fine, mended"

    world.run(app, scenario)


@pytest.mark.contract("bugs-others")
def test_a_step_that_fails_for_ever_stops_nobody(world: World) -> None:
    app, ends, _, _ = bugs(True)

    async def scenario(client: Client) -> None:
        stuck = await client.start(ends, "for ever")
        assert await client.execute(ends, "other") == "other"
        await until(stuck, "StepAttemptFailed", 1)
        while "RuntimeError: of the step: for ever" not in (await stuck.describe()).why:
            await asyncio.sleep(0.02)  # another attempt runs
        await stuck.terminate()

    world.run(app, scenario)


@pytest.mark.contract("forwarded")
def test_a_command_on_the_wrong_partition_is_forwarded_with_its_id(world: World) -> None:
    app, ends, _, _ = bugs(False)

    async def scenario(client: Client) -> None:
        transport = client.calls.caller._transport
        send, went = transport.send, []

        def astray(partition: int, key: bytes, value: bytes, *rest: Any) -> None:
            """Every command goes to the partition next to its own."""
            wrong = (partition_of(key, transport.partitions) + 1) % transport.partitions
            went.append((partition, wrong))
            send(wrong, key, value, *rest)

        transport.send = astray
        try:
            handle = await client.using(command_id="once").start(ends.options(id="astray"), "other")
            again = await client.using(command_id="once").start(ends.options(id="astray"), "other")
        finally:
            transport.send = send
        assert went
        assert handle.run_id == again.run_id
        assert await handle.result() == "other"
        started = await anext(handle.history())
        assert started.raw["cause"]["command_id"] == "once"

    world.run(app, scenario)
