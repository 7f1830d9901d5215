"""The application of the last of `make walls`: a limit that tenants share."""

from __future__ import annotations

import asyncio

from orchestrator import Orchestrator

app = Orchestrator("walls-fair")
shared = app.limit("shared", concurrency=8, fairness="tenant", strategy="round_robin")


@app.step(limits=[shared])
async def limited(tenant: str) -> None:
    """A step of a tenant."""
    await asyncio.sleep(0.01)


@app.workflow
async def tenant(name: str, steps: int) -> None:
    """So many of them at once."""
    await asyncio.gather(*(limited(name) for _ in range(steps)))
