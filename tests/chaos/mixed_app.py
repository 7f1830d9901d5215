"""The kill campaign's application with more: every kind of load, each run with a result that the model knows.

Its processes are told by the environment which application they are (`ORCHESTRATOR_APP_NAME`), and where the outside
receiver of effects writes (`KILLS_RECEIPTS`).
"""

from __future__ import annotations

import asyncio

from orchestrator import StepFailed
from tests.faults.kill_app import (
    CHILD,
    CHILD_RESULT,
    CHILD_STEPS as CHILD_STEPS,
    EFFECTS as KILLED,
    add,
    app,
    child,
    go,
    once,
    receive,
    stumble,
)

bump = app.update("bump", int, int)
slots = app.limit("slots", concurrency=8)

EFFECTS = (*KILLED, "narrow")
"""The steps: each has an effect outside before it returns."""


@app.step(limits=[slots])
async def narrow(x: int) -> int:
    """A step of which few run at once, over all engines."""
    receive()
    return x + 1


@app.workflow
async def mixed(workflow_id: str, n: int, nap_ms: int) -> int:
    """Steps in a row, steps at once under a limit, a retry, timers, a guarded step, a child, an update, two signals."""
    total = 0
    bumped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def bumps(value: int) -> int:
        bumped.set_result(await add(value))
        return value

    bump.handle(bumps)
    for x in range(n):
        total += await add(x)
    total += sum(await asyncio.gather(*(narrow(x) for x in range(n))))
    await asyncio.sleep(nap_ms / 1000)
    total += await stumble(1)
    try:
        total += await once(2)
    except StepFailed:
        total += 3
    total += await child.options(id=workflow_id + CHILD)(10)
    total += await bumped
    return total + await go.wait() + await go.wait()


def result_of(n: int, bumped: int, signals: tuple[int, int]) -> int:
    """What `mixed` returns."""
    return 2 * sum(range(1, n + 1)) + 2 + 3 + CHILD_RESULT + (bumped + 1) + sum(signals)


def steps_of(n: int) -> int:
    """Step results that a run of `mixed` leaves, its child's apart."""
    return 2 * n + 3
