"""Two releases of one application: `ROLLING_RELEASE` says which this process has."""

from __future__ import annotations

import os

from orchestrator import Orchestrator, patched, run_info

RELEASE = int(os.environ.get("ROLLING_RELEASE") or 1)
app = Orchestrator(os.environ.get("ORCHESTRATOR_APP_NAME") or "rolling")
go = app.signal("go", int)


@app.step
async def work(what: str) -> str:
    """Who did what."""
    return what


async def in_two_parts(*whats: str) -> list[str]:
    """A step before and one after the signal."""
    first = await work(whats[0])
    await go.wait()
    return [str(run_info().version), first, await work(whats[1])]


@app.workflow(version=RELEASE)
async def numbered() -> list[str]:
    return await in_two_parts("one", "two") if RELEASE == 1 else await in_two_parts("eins", "zwei")


if RELEASE > 1:

    @numbered.older(version=1)
    async def numbered_1() -> list[str]:
        return await in_two_parts("one", "two")


@app.workflow
async def changed() -> list[str]:
    side = "new" if RELEASE > 1 and patched("side") else "old"
    return await in_two_parts(side, side)
