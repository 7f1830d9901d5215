"""However full batches are: outcomes, timers and commands all get into them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.engine.batch import AT_LEAST
from orchestrator.engine.options import EngineOptions
from tests.engine.rig import Rig

pytestmark = pytest.mark.slow

Make = Callable[[Orchestrator], Rig]

app = Orchestrator("full")
go = app.signal("go", int)
STEPS = 3 * AT_LEAST


@app.step
async def add(n: int) -> int:
    return n + 1


@app.step(start_to_close=timedelta(minutes=10))
def judged(n: int) -> int:
    return n


@app.workflow
async def all_kinds() -> int:
    total = await add(1)
    await asyncio.sleep(0.001)
    total += await go.wait()
    return sum(await asyncio.gather(*(judged(n) for n in range(STEPS)))) + total


def test_a_batch_without_room_takes_some_of_everything(rig: Make) -> None:
    """Until now outcomes that never ended kept due timers waiting for ever."""
    one = rig(app)
    one.engine(EngineOptions(batch_ms=0, batch_bytes=0))
    for number in range(3):
        one.start(f"w{number}", all_kinds)
        one.signal(f"w{number}", "go", b"7")
    expected = str(sum(range(STEPS)) + 2 + 7).encode()
    assert [one.result(f"w{number}") for number in range(3)] == [expected] * 3
    assert len(one.bodies(e.TimerFired)) >= 3
    assert not one.bodies(e.StepFailed)
