"""The application of the kill campaign: every kind of await, each with a result that the model knows.

Its processes are told by the environment which application they are (`ORCHESTRATOR_APP_NAME`), and where the outside
receiver of effects writes (`KILLS_RECEIPTS`).
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta

from orchestrator import Orchestrator, RetryPolicy, StepFailed, step_info
from orchestrator.failpoints import failpoint

app = Orchestrator(os.environ.get("ORCHESTRATOR_APP_NAME") or "kills")
go = app.signal("go", int)

CHILD, CHILD_RESULT, CHILD_STEPS = "/child", 12, 2
EFFECTS = ("add", "stumble", "once")
"""The steps: each has an effect outside before it returns."""
RECEIPTS = os.environ.get("KILLS_RECEIPTS", "")


def receive() -> None:
    """The effect: an outside receiver writes the idempotency key down, at once."""
    if RECEIPTS:
        with open(RECEIPTS, "a", encoding="utf-8") as out:
            out.write(f"{step_info().idempotency_key} {time.time_ns() // 1_000_000}\n")
    failpoint("K4")


@app.step
async def add(x: int) -> int:
    """An ordinary step."""
    receive()
    return x + 1


@app.step(retry=RetryPolicy(initial_interval=timedelta(milliseconds=20)))
async def stumble(x: int) -> int:
    """Fails at its first attempt."""
    receive()
    if step_info().attempt == 1:
        raise RuntimeError("the first attempt fails")
    return x + 1


@app.step(on_crash="fail")
async def once(x: int) -> int:
    """A step that is never begun twice: a kill may end it as interrupted."""
    receive()
    return x + 1


async def alone(n: int) -> int:
    """Of a run, what asks nobody else: `n` steps, `n` steps at once, a sleep, a retry and a guarded step."""
    total = 0
    for x in range(n):
        total += await add(x)
    total += sum(await asyncio.gather(*(add(x) for x in range(n))))
    await asyncio.sleep(0.03)
    total += await stumble(1)
    try:
        total += await once(2)
    except StepFailed:
        total += 3
    return total


@app.workflow
async def child(x: int) -> int:
    """A child of two steps."""
    return await add(await add(x))


@app.workflow
async def load(workflow_id: str, n: int) -> int:
    """What it does alone, a child and two signals."""
    total = await alone(n)
    total += await child.options(id=workflow_id + CHILD)(10)
    return total + await go.wait() + await go.wait()


def result_of(n: int, signals: tuple[int, int]) -> int:
    """What `load` returns."""
    return 2 * sum(range(1, n + 1)) + 2 + 3 + CHILD_RESULT + sum(signals)


def steps_of(n: int) -> int:
    """Step results that a run of `load` leaves, its child's apart."""
    return 2 * n + 2
