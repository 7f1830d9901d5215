"""At the desk a run is evicted after every turn; a long one after every fiftieth."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import Orchestrator
from orchestrator.sdk.turn import LiveRun
from orchestrator.testing import environment

pytestmark = pytest.mark.slow

app = Orchestrator("evictions")


@app.step
async def step(number: int) -> int:
    return number


@app.workflow
async def long(steps: int) -> int:
    for number in range(steps):
        await step(number)
    return steps


@pytest.mark.parametrize(("steps", "evictions"), [(20, 20), (320, 203)])
def test_every_turn_then_every_fiftieth(monkeypatch: pytest.MonkeyPatch, steps: int, evictions: int) -> None:
    evicted: list[int] = []
    evict = LiveRun.evict

    def counted(run: LiveRun) -> None:
        if not run.closed:
            evicted.append(1)
        evict(run)

    monkeypatch.setattr(LiveRun, "evict", counted)

    async def run() -> None:
        async with environment(app, second_process=False) as env:
            assert await env.execute(long, steps) == steps

    asyncio.run(run())
    # A batch that took long goes on with the same run, without an eviction between two turns.
    assert evictions - 3 <= len(evicted) <= evictions
