"""The application that `workflow debug` replays in its tests."""

from __future__ import annotations

import logging

from orchestrator.sdk.app import Orchestrator

log = logging.getLogger(__name__)
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
        log.info("packing %s", item)
        grams += await pack(item)
    return grams
