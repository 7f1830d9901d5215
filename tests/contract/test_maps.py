"""The contract, "Batches: step.map": how far one is."""

from __future__ import annotations

import asyncio
import threading

import pytest

from orchestrator import Client, Orchestrator
from tests.contract.world import World

app = Orchestrator("contract-maps")
TOLD = threading.Event()


@app.workflow
async def maps_and_waits() -> list[int]:
    """Its last two items end when somebody says so."""
    found = await told_or_odd.map([1, 2, 3, 4, 5, 7], concurrency=4, on_error="collect")
    return [one if isinstance(one, int) else -1 for one in found]


@app.step(retry=1)
async def told_or_odd(value: int) -> int:
    while value > 4 and not TOLD.is_set():
        await asyncio.sleep(0.01)
    if value % 2 == 0:
        raise ValueError(f"{value} is even")
    return value


@pytest.mark.contract("step-map")
def test_how_far_a_map_is_can_be_seen(memory: World) -> None:
    async def scenario(client: Client) -> None:
        TOLD.clear()
        handle = await client.start(maps_and_waits)
        try:
            run = await handle.describe()
            while sum(one.done + one.failed for one in run.maps) < 4:
                await asyncio.sleep(0.02)
                run = await handle.describe()
            (one,) = run.maps
            assert (one.name, one.done, one.failed, one.total) == ("told_or_odd", 2, 2, 6)
            assert one.call_site.startswith("test_maps.py:")
            await memory.restart()
            assert (await handle.describe()).maps == run.maps, "a replay counts the same"
        finally:
            TOLD.set()
        assert await handle.result() == [1, -1, 3, -1, 5, 7]
        assert (await handle.describe()).maps == ()

    memory.run(app, scenario)
