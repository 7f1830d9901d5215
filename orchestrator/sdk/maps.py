"""A step over many items: `step.map`, and how far one is."""

from __future__ import annotations

import asyncio
from typing import Any

from .calls import StepCalled
from .loop import running_loop


class Failed:
    """An item of `map(..., on_error="collect")` that failed."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        return f"Failed({self.error!r})"


class MapProgress:
    """How far a map is. `done` are items with a result, `failed` those that `collect` put a `Failed` for.

    Counted by the run's code, in memory: a replay counts the same, and nothing of it is recorded.
    """

    def __init__(self, name: str, call_site: str, total: int) -> None:
        self.name = name
        self.call_site = call_site
        self.total = total
        self.done = 0
        self.failed = 0

    def view(self) -> dict[str, Any]:
        """As `describe` answers it."""
        return dict(vars(self))


async def map_items(step: Any, items: list[Any], concurrency: int, on_error: str, site: str) -> list[Any]:
    """What `step.map` does, inside a workflow and outside."""
    limit = asyncio.Semaphore(concurrency or len(items) or 1)
    progress = MapProgress(step.code.name, site, len(items))
    failed = False

    async def one(item: Any) -> Any:
        nonlocal failed
        async with limit:
            if failed:
                # It has the place of the item that failed, before the map has heard of that.
                raise asyncio.CancelledError
            try:
                call = step(item)
                if isinstance(call, StepCalled):
                    call.call_site = site
                result = await call
            except Exception as error:
                if on_error == "collect":
                    progress.failed += 1
                    return Failed(error)
                failed = True
                raise
            progress.done += 1
            return result

    loop = running_loop()
    if loop is not None:
        loop.maps.append(progress)
    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    except (Exception, asyncio.CancelledError):
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    finally:
        if loop is not None:
            loop.maps.remove(progress)
