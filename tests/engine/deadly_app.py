"""An application with a step and a turn that kill their process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from datetime import timedelta

from orchestrator import Orchestrator, RetryPolicy, StepFailed

app = Orchestrator(os.environ.get("DEADLY_APP", "deadly"))
QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=10))


@app.step(retry=QUICK)
def dies() -> int:
    """Ends its process without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@app.step(on_crash="fail")
def dies_once() -> int:
    """The same, but what it did before may not be done twice."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@app.step
async def works(x: int) -> int:
    """A neighbour."""
    await asyncio.sleep(0.01)
    return x + 1


@app.workflow
async def deadly_step() -> int:
    return await dies()


@app.workflow
async def deadly_once() -> str:
    try:
        return str(await dies_once())
    except StepFailed as error:
        return f"{type(error).__name__}: {error}"


@app.workflow
async def harmless(x: int) -> int:
    for _ in range(3):
        x = await works(x)
    return x


strike = app.signal("strike", int)


@app.workflow
async def deadly_late() -> int:
    """Harmless steps, then a turn that a test makes deadly."""
    x = 0
    for _ in range(6):
        x = await works(x)
    return x + await strike.wait()


@app.workflow
async def deadly_turn() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@app.workflow
async def stubborn_turn() -> int:
    """A turn that nothing within its process can end."""
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


@app.workflow
async def holding_turn() -> int:
    """A turn that holds the interpreter: no other thread of its process runs meanwhile."""
    return sum(range(10**12))


@app.workflow
async def blocking_turn() -> int:
    """A turn that blocks its loop for two minutes, in C code that lets other threads run."""
    select.select([], [], [], 120)
    return 1
