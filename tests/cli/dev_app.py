"""The application that `orchestrator dev` is told to run in its tests."""

from __future__ import annotations

from orchestrator.sdk.app import Orchestrator

app = Orchestrator("shop")


@app.step(queue="gpu")
async def embed(text: str) -> list[float]:
    """A step for a worker."""
    return [float(len(text))]
