"""The application of `test_registry.py`."""

from __future__ import annotations

from orchestrator import Orchestrator

app = Orchestrator("registered")


@app.step
async def add(x: int) -> int:
    """One step."""
    return x + 1


@app.step(queue="elsewhere")
async def double(x: int) -> int:
    """A step of a worker."""
    return x * 2


@app.workflow
async def sums(x: int) -> int:
    """A step here, one elsewhere."""
    return await double(await add(x))
