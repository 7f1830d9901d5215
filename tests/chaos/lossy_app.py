"""The application of unclean elections: runs that ask nothing of other partitions (docs/runbook.md, a log that lost its
end, says why: who was asked remembers, and who asked does not).
"""

from __future__ import annotations

import asyncio

from orchestrator import StepFailed
from tests.faults.kill_app import add, app, go, once, stumble


@app.workflow
async def alone(n: int) -> int:
    """`n` steps, `n` steps at once, a sleep, a retry, a guarded step and two signals."""
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
    return total + await go.wait() + await go.wait()


def result_of(n: int, signals: tuple[int, int]) -> int:
    """What `alone` returns."""
    return 2 * sum(range(1, n + 1)) + 2 + 3 + sum(signals)


def steps_of(n: int) -> int:
    """Step results that a run of `alone` leaves."""
    return 2 * n + 2
