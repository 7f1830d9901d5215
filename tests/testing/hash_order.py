"""An application whose workflow walks over a set: the order is the process's."""

from __future__ import annotations

from orchestrator import Orchestrator

app = Orchestrator("hash-order")


@app.step
async def put(item: str) -> str:
    return item


@app.workflow
async def unordered() -> int:
    for item in {f"item {n}" for n in range(12)}:
        await put(item)
    return 12


@app.workflow
async def ordered() -> int:
    for item in sorted({f"item {n}" for n in range(12)}):
        await put(item)
    return 12
