"""What poison meets: runs that wait for everything there is to wait for, and good runs beside them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from orchestrator import Orchestrator, approval, query, update, wait_event

app = Orchestrator("poison")
go = app.signal("go", int)
topic = app.event("1", dict[str, int])
one_at_a_time = app.limit("one", concurrency=1)


@app.step
async def double(x: int) -> int:
    """A step that works."""
    return 2 * x


@app.step(queue="x")
async def remote(x: int) -> int:
    """A step that no worker takes, so that commands about it find it pending."""
    return x


@app.step(limits=[one_at_a_time])
async def limited(x: int) -> int:
    """A step that asks the home of a limit first."""
    return x


@app.workflow
async def doubles(x: int) -> int:
    for _ in range(3):
        x = await double(x)
    return x


class Target:
    """Waits for a signal, a step, an approval, an event and a child at once."""

    def __init__(self) -> None:
        self.total = 0

    @app.run(name="target")
    async def run(self, x: int = 0) -> int:
        waiting = [
            go.wait(),
            remote(x),
            limited(x),
            approval("ok", {"x": x}),
            wait_event("1", match={"x": x}),
            doubles(x),
        ]
        await asyncio.gather(*waiting)
        return self.total

    @update
    def add(self, x: int) -> int:
        """An update."""
        self.total += x
        return self.total

    @query
    def ok(self, x: int = 0) -> int:
        """A question to code."""
        return self.total + x


@app.entity
@dataclass
class Counter:
    """An entity whose calls poison may be."""

    value: int = 0

    @app.handler
    async def add(self, x: int) -> int:
        """A call."""
        self.value += x
        return self.value
