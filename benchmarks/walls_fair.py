"""Fairness at full size: one tenant has 100,000 tasks under a limit that all share, another one has one task."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.__main__ import quantile, say
from benchmarks.walls_fair_app import tenant
from orchestrator import Client, Handle

TASKS, A_RUN = 100_000, 1_000
LOOK_S = 20.0
ALONE = 30


async def done(client: Client) -> int:
    """Tasks that ended."""
    runs = [run async for run in client.runs() if run.workflow_id.startswith("crowd")]
    return sum(int(run.raw["steps_done"]) for run in runs)


async def started(client: Client, runs: int) -> list[Handle[None]]:
    """The crowd's runs, one after the other: the next begins when the tasks of the one before are scheduled."""
    return [await client.start(tenant.options(id=f"crowd-{number}"), "crowd", A_RUN) for number in range(runs)]


async def fairness(client: Client, scale: float, found: dict[str, Any]) -> None:
    """How long the other tenant's task takes alone, while the crowd asks, and while it waits."""
    runs = max(1, int(TASKS * scale) // A_RUN)
    alone = quantile([await once(client) for _ in range(ALONE)], 0.5)
    found["fair_alone_ms_p50"] = alone
    say(f"one tenant has {runs * A_RUN} tasks under a limit, another one has one")
    began = time.perf_counter()
    starting = asyncio.create_task(started(client, runs))
    came: list[float] = []
    while not starting.done():
        came.append(await once(client))
    crowd = await starting
    found["fair_tasks"] = runs * A_RUN
    found["fair_asked_s"] = time.perf_counter() - began
    found["fair_beside_asking_ms_p50"] = quantile(came, 0.5)
    found["fair_beside_asking_ms_max"] = max(came)
    found["fair_delay_beside_asking_ms_max"] = max(came) - alone
    waited: list[float] = []
    until = time.perf_counter() + LOOK_S
    while time.perf_counter() < until:
        waited.append(await once(client))
    found["fair_left"] = runs * A_RUN - await done(client)
    found["fair_beside_waiting_ms_p50"] = quantile(waited, 0.5)
    found["fair_beside_waiting_ms_max"] = max(waited)
    found["fair_delay_beside_waiting_ms_max"] = max(waited) - alone
    await asyncio.gather(*(handle.terminate() for handle in crowd), return_exceptions=True)


async def once(client: Client) -> float:
    """The other tenant's task: milliseconds from its start to its result."""
    began = time.perf_counter()
    await client.execute(tenant, "other", 1)
    return (time.perf_counter() - began) * 1000
