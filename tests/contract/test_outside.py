"""The contract, "Steps": completion from outside by token."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from orchestrator import Client, CommandRejected, Orchestrator, StepFailed, step_info
from tests.contract.world import World

app = Orchestrator("contract-outside")
handed_on: dict[str, str] = {}
"""The token of a run's step, by workflow id: what a letter would carry."""


@app.step(heartbeat=timedelta(minutes=1))
async def asks() -> str:
    """Hands its token on, and waits for whoever got it."""
    handed_on[step_info().workflow_id] = step_info().idempotency_key
    await asyncio.Event().wait()
    return ""


@app.workflow
async def waits() -> str:
    try:
        return await asks()
    except StepFailed as error:
        return f"{type(error).__name__}: {error}"


async def _token(workflow_id: str) -> str:
    while workflow_id not in handed_on:
        await asyncio.sleep(0.01)
    return handed_on[workflow_id]


@pytest.mark.contract("step-outside")
@pytest.mark.parametrize("how", ["complete", "fail"])
def test_who_has_the_token_ends_the_step(world: World, how: str) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(waits)
        step = client.step(await _token(handle.workflow_id))
        if how == "complete":
            await step.complete("by letter")
            assert await handle.result() == "by letter"
        else:
            await step.fail("returned to sender", "Undeliverable")
            assert "returned to sender" in await handle.result()
        with pytest.raises(CommandRejected):
            await step.complete("twice")

    world.run(app, scenario)


@pytest.mark.contract("step-outside")
def test_who_has_the_token_says_that_the_step_is_alive(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(waits)
        step = client.step(await _token(handle.workflow_id))
        for page in range(3):
            await step.heartbeat({"page": page})
        await step.complete("at last")
        assert await handle.result() == "at last"
        beats = [event.body["details"] async for event in handle.history() if event.type == "StepHeartbeat"]
        assert beats == [{"page": 0}, {"page": 1}, {"page": 2}]

    world.run(app, scenario)
