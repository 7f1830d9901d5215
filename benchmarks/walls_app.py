"""The application of `make walls`: runs as large as nobody should write them."""

from __future__ import annotations

import asyncio

from orchestrator import Orchestrator

app = Orchestrator("walls")
go = app.signal("go", int)
steps_done = app.query("steps_done", int)
finished = app.update("finished", int, int)
"""Answered once a run has done what it was to do: whoever waits for that asks nobody else meanwhile."""


class Done:
    """In a run: answers `finished` when `event` is set."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        finished.handle(self._answer)

    async def _answer(self, value: int) -> int:
        await self.event.wait()
        return value


@app.step
async def tick(i: int) -> int:
    """A step that does nothing."""
    return i


@app.step
async def piece(i: int, size: int) -> str:
    """So many characters."""
    return chr(97 + i % 26) * size


@app.workflow
async def long(steps: int) -> int:
    """One step after the other, then a wait."""
    done = 0
    steps_done.answer(lambda: done)
    for i in range(steps):
        await tick(i)
        done += 1
    await go.wait()
    return done


@app.workflow
async def wide(steps: int) -> int:
    """All at once, then a wait."""
    done = Done()
    results = await asyncio.gather(*(tick(i) for i in range(steps)))
    done.event.set()
    await go.wait()
    return len(results)


@app.workflow
async def heavy(pieces: int, size: int) -> int:
    """A run that holds much, and waits."""
    held = [await piece(i, size) for i in range(pieces)]
    await go.wait()
    return sum(map(len, held))


@app.workflow
async def counts(signals: int) -> int:
    """Takes signals one by one, then a wait; their sum."""
    done, total = Done(), 0
    for _ in range(signals):
        total += await go.wait()
    done.event.set()
    await go.wait()
    return total


@app.workflow
async def other() -> int:
    """Somebody else's run, on the same partition."""
    return await tick(0)
