"""An application with everything that docs/runbook.md is for."""

from __future__ import annotations

import os

from orchestrator import Orchestrator

app = Orchestrator(os.environ.get("ORCHESTRATOR_APP_NAME", "runbook"))
go = app.signal("go", bool)


@app.step(on_crash="park")
def dies(number: int) -> int:
    """Ends its step process: whether it had an effect is for a person to say."""
    os._exit(number)


@app.step(queue="gpu")
def elsewhere(number: int) -> int:
    """Done by whoever takes tasks of its queue."""
    return number + 1


@app.workflow
async def dying() -> int:
    """Stands still at a parked step."""
    return await dies(3)


@app.workflow
async def buggy() -> int:
    """Is parked by its own bug."""
    return [1, 2, 3][len("far too long")]


@app.workflow
async def endless() -> int:
    """Never yields."""
    while True:
        pass


@app.workflow
async def waiting() -> bool:
    """Waits for a signal."""
    return await go.wait()


@app.workflow
async def offered() -> int:
    """Waits for a worker."""
    return await elsewhere(1)
