"""The contract, "Pause and resume"."""

from __future__ import annotations

import asyncio
import threading

import pytest

from orchestrator import Client, CommandRejected, Handle, Orchestrator, RunTerminated, step_info
from tests.contract.world import World

app = Orchestrator("contract-pausing")
go = app.signal("go", int)
gates: dict[str, threading.Event] = {}
"""Lets the step of a workflow end: steps run in this process."""


def gate(workflow_id: str) -> threading.Event:
    return gates.setdefault(workflow_id, threading.Event())


@app.step
def gated(number: int) -> int:
    gate(step_info().workflow_id).wait(60)
    return number


@app.workflow
async def two_steps() -> int:
    return await gated(1) + await gated(2)


@app.workflow
async def takes_what_comes(patience: list[float]) -> list[str]:
    taken = []
    for seconds in patience:
        try:
            async with asyncio.timeout(seconds):
                taken.append(f"signal {await go.wait()}")
        except TimeoutError:
            taken.append("timer")
    return taken


async def kinds(handle: Handle[object]) -> list[str]:
    return [event.type async for event in handle.history()]


async def until(handle: Handle[object], kind: str) -> None:
    while kind not in await kinds(handle):
        await asyncio.sleep(0.02)


@pytest.mark.contract("pause")
def test_what_runs_ends_and_nothing_new_begins(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(two_steps)
        await until(handle, "StepScheduled")
        pausing = handle.using(reason="month's end")
        await pausing.pause()
        gate(handle.workflow_id).set()
        await until(handle, "StepCompleted")
        await world.restart()
        described = await handle.describe()
        assert (described.status, described.is_open) == ("paused", True)
        assert "month's end" in described.why
        assert "workflow resume" in described.why
        assert (await kinds(handle)).count("StepScheduled") == 1
        assert (await pausing.pause()).outcome == "accepted", "a second request is fulfilled already"
        await handle.resume()
        assert await handle.result() == 3
        paused = [event.body async for event in handle.history() if event.type == "RunPaused"]
        assert [body["reason"] for body in paused] == ["month's end"]
        with pytest.raises(CommandRejected):
            await handle.resume()

    world.run(app, scenario)


@pytest.mark.contract("pause")
def test_signals_and_due_timers_wait_in_their_order(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(takes_what_comes, [0.3, 3_600.0])
        await until(handle, "TimerSet")
        await handle.pause()
        await until(handle, "TimerFired")
        await handle.signal(go, 7)
        assert (await handle.describe()).status == "paused"
        await handle.resume()
        assert await handle.result() == ["timer", "signal 7"]

    world.run(app, scenario)


@pytest.mark.contract("pause")
def test_only_a_run_that_runs_is_paused_and_a_paused_one_can_be_ended(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(takes_what_comes, [60.0, 60.0])
        with pytest.raises(CommandRejected, match="is running") as refused:
            await handle.resume()
        assert refused.value.code == "not_paused"
        await handle.pause()
        await handle.terminate()
        with pytest.raises(RunTerminated):
            await handle.result()
        with pytest.raises(CommandRejected):
            await handle.pause()

    world.run(app, scenario)
