"""The contract, "Many runs": task queues whose steps wait for their turn, with a worker in every mode."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import Client, Handle, Orchestrator
from tests.contract.queued import QUEUE
from tests.contract.world import World

pytestmark = pytest.mark.contract("queues")

app = Orchestrator("contract-queues")
FIRST = app.limit("first", concurrency=1)
TURNS = app.limit("turns", concurrency=1, fairness="tenant", strategy="round_robin")
free = threading.Event()
began: list[Any] = []


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    free.clear()
    began.clear()
    yield
    free.set()


@app.step(queue=QUEUE, limits=[FIRST], isolation="thread")
def render(what: str) -> None:
    """A worker's; the first one stands until the test has all the others wait."""
    began.append(what)
    assert free.wait(30)


@app.step(queue=QUEUE, limits=[TURNS], isolation="thread")
def answer(tenant: str, number: int) -> None:
    """As `render`, in turns."""
    began.append((tenant, number))
    assert free.wait(30)


@app.workflow
async def renders(what: list[tuple[str, int]]) -> None:
    await asyncio.gather(*(render.options(priority=priority)(name) for name, priority in what))


@app.workflow
async def answers(tenant: str, count: int) -> None:
    await asyncio.gather(*(answer(tenant, number) for number in range(count)))


async def wait_for_their_turn(client: Client, count: int) -> None:
    """Until a worker has the first one's step and so many wait behind it."""
    while [(one.held, one.waiting) async for one in client.limits.list()] != [(1, count)] or not began:
        await asyncio.sleep(0.01)


async def all_by_a_worker(handle: Handle[Any], count: int) -> None:
    """Each step of a run was offered on its queue, and granted to who took it there."""
    events = [event async for event in handle.history()]
    scheduled = [event for event in events if event.type == "StepScheduled"]
    assert [event.body["options"]["queue"] for event in scheduled] == [QUEUE] * count
    assert {event.body["step"] for event in events if event.type == "StepLeased"} == {
        event.body["step"] for event in events if event.type == "StepCompleted"
    }


def test_of_a_queue_s_steps_the_highest_priority_is_worked_on_first(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(renders, [("first", 0)])
        await wait_for_their_turn(client, 0)
        rest = [("low", 0), ("low too", 0), ("middle", 5), ("high", 9)]
        others = await client.start(renders, rest)
        await wait_for_their_turn(client, len(rest))
        urgent = await client.start(renders, [("urgent", 7)])
        await wait_for_their_turn(client, len(rest) + 1)
        free.set()
        for handle, count in ((first, 1), (others, len(rest)), (urgent, 1)):
            await handle.result()
            await all_by_a_worker(handle, count)
        assert began == ["first", "high", "urgent", "middle", "low", "low too"]

    world.run(app, scenario, worker=True)


def test_tenants_take_turns_on_a_queue(world: World) -> None:
    """Whoever asked for most, and first, is worked for as often as the others."""

    async def scenario(client: Client) -> None:
        asked = {"first": 1, "many": 6, "two": 2, "three": 3}
        handles = {}
        for tenant, count in asked.items():
            handles[tenant] = await client.start(answers, tenant, count)
            await wait_for_their_turn(client, sum(asked[one] for one in handles) - 1)
        free.set()
        for tenant, handle in handles.items():
            await handle.result()
            await all_by_a_worker(handle, asked[tenant])
        turns = "first", *("many", "two", "three") * 2, "many", "three", *("many",) * 3
        assert [tenant for tenant, _ in began] == list(turns)

    world.run(app, scenario, worker=True)
