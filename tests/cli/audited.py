"""An application whose log is audited; `changed` is its next release, which does something else."""

from __future__ import annotations

from orchestrator import Orchestrator

app = Orchestrator("audited-cli")
changed = Orchestrator("audited-cli")


@app.step
async def add(x: int) -> int:
    """One more."""
    return x + 1


@app.workflow
async def adds(x: int) -> int:
    """Three steps."""
    for _ in range(3):
        x = await add(x)
    return x


@changed.step(name="add")
async def adds_two(x: int) -> int:
    """Another step of the same name."""
    return x + 2


@changed.workflow(name="adds")
async def adds_more(x: int) -> int:
    """Other arguments at the second call."""
    return await adds_two(await adds_two(x) + 1)
