"""The application that the benchmark runs: steps that only say when they ran."""

from __future__ import annotations

import time

from orchestrator import Orchestrator

app = Orchestrator("bench")


@app.step
async def tick(i: int) -> float:
    """When the step ran, by the machine's monotonic clock (one clock for all processes)."""
    return time.monotonic()


@app.workflow
async def sequence(steps: int) -> list[float]:
    """One step after the other."""
    return [await tick(i) for i in range(steps)]


@app.workflow
async def nothing() -> None:
    """A run that completes in its first turn."""
