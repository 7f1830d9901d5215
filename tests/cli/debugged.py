"""The application that `workflow debug` replays in its tests."""

from __future__ import annotations

from orchestrator.sdk.app import Orchestrator

app = Orchestrator("shop")


@app.step
async def pack(item: str) -> int:
    """Weigh an item."""
    raise AssertionError("a replay carries nothing out")


@app.workflow
async def order(items: list[str]) -> int:
    """Pack one item after the other."""
    grams = 0
    for item in items:
        grams += await pack(item)
    return grams
