"""The contract, "Batches: step.map": how far one is, how many at once, what is kept, and what an error ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pytest

from orchestrator import Client, Handle, Orchestrator, step_info
from tests.contract.world import World

app = Orchestrator("contract-maps")
gates: dict[int, threading.Event] = {}
began: list[int] = []
told: list[int] = []
"""By item: steps run in this process."""


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    gates.update({item: threading.Event() for item in range(10)})
    began.clear()
    told.clear()
    yield
    for gate in gates.values():
        gate.set()


@app.step(retry=1)
async def odd(item: int) -> int:
    """Ends when the item's gate opens, or when it is told to."""
    began.append(item)
    try:
        while not gates[item].is_set():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        told.append(item)
        raise
    if item % 2 == 0:
        raise ValueError(f"{item} is even, in attempt {step_info().attempt}")
    return item


@app.workflow
async def collects(items: list[int], at_once: int) -> list[int]:
    found = await odd.map(items, concurrency=at_once, on_error="collect")
    return [one if isinstance(one, int) else -1 for one in found]


@app.workflow
async def fails(items: list[int], at_once: int) -> str:
    try:
        return f"{await odd.map(items, concurrency=at_once, on_error='fail')}"
    except ValueError as error:
        return f"{error}"


async def until(holds: Any) -> None:
    """Wait until it holds."""
    while not holds():
        await asyncio.sleep(0.01)


async def ends(handle: Handle[Any]) -> list[Any]:
    """The events that end an item with a result or an error."""
    return [event async for event in handle.history() if event.type in ("StepCompleted", "StepFailed")]


@pytest.mark.contract("step-map")
def test_how_far_a_map_is_can_be_seen(world: World) -> None:
    async def scenario(client: Client) -> None:
        for item in (1, 2, 3, 4):
            gates[item].set()
        handle = await client.start(collects, [1, 2, 3, 4, 5, 7], 4)
        run = await handle.describe()
        while sum(one.done + one.failed for one in run.maps) < 4:
            await asyncio.sleep(0.02)
            run = await handle.describe()
        (one,) = run.maps
        assert (one.name, one.done, one.failed, one.total) == ("odd", 2, 2, 6)
        assert one.call_site.startswith("test_maps.py:")
        await world.restart()
        assert (await handle.describe()).maps == run.maps, "a replay counts the same"
        gates[5].set()
        gates[7].set()
        assert await handle.result() == [1, -1, 3, -1, 5, 7]
        assert (await handle.describe()).maps == ()

    world.run(app, scenario)


@pytest.mark.contract("step-map")
def test_no_more_than_so_many_at_once_and_each_is_kept_when_it_ends(world: World) -> None:
    """Judged by the history: an item is at work from its schedule to its end."""

    async def scenario(client: Client) -> None:
        items = [1, 3, 5, 7, 9]
        handle = await client.start(collects, items, 2)
        for count, item in enumerate(items, 1):
            await until(lambda item=item: item in began)  # type: ignore[misc]
            gates[item].set()
            while len(await ends(handle)) < count:
                await asyncio.sleep(0.01)
            if count == 2:
                await world.restart()
        assert await handle.result() == items
        story = [event async for event in handle.history()]
        steps = [event for event in story if event.type in ("StepScheduled", "StepCompleted")]
        at_work = list(accumulate(1 if event.type == "StepScheduled" else -1 for event in steps))
        assert (max(at_work), at_work[-1]) == (2, 0)
        assert len({tuple(event.raw["batch"][:2]) for event in await ends(handle)}) == len(items)
        assert (began.count(1), began.count(3)) == (1, 1), "what was kept is not done again"

    world.run(app, scenario)


@pytest.mark.contract("step-map")
def test_the_first_error_fails_the_map_and_cancels_the_rest(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(fails, [1, 2, 3, 5, 7], 3)
        await until(lambda: {1, 2, 3} <= set(began))
        gates[1].set()
        while len(await ends(handle)) < 1:
            await asyncio.sleep(0.01)
        await until(lambda: 5 in began)
        gates[2].set()
        assert "2 is even" in await handle.result()
        await until(lambda: {3, 5} <= set(told))
        kinds = [event.type async for event in handle.history()]
        assert (kinds.count("StepCompleted"), kinds.count("StepFailed")) == (1, 1)
        assert kinds.count("StepCancelRequested") >= 2
        assert 7 not in began, "what had not begun does not begin"

    world.run(app, scenario)
