"""An event loop on a thread of its own: blocking calls are carried out there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent import futures
from typing import Any, TypeVar

from orchestrator.errors import BlockingInLoop

LOOK_S = 0.5

T = TypeVar("T")


class LoopThread:
    """An event loop on a thread of its own, on which blocking calls are carried out."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="blocking-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry out `work` and return what it returns. Raises BlockingInLoop on a thread whose event loop runs."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        else:
            work.close()
            raise BlockingInLoop(
                "a blocking call would stop the event loop that runs on this thread: use the async client here"
                " (`async with app.connect() as client`), or call from a thread without a loop"
            )
        try:
            # In rounds: a Ctrl-C that the kernel hands to another thread is heard when this one wakes.
            while not future.done():
                futures.wait([future], LOOK_S)
            return future.result()
        except BaseException:
            # Ctrl-C while waiting: the call must not go on behind the caller's back.
            future.cancel()
            raise

    def every(self, found: AsyncIterator[T]) -> list[T]:
        """All that an iterator has. Raises as `run`."""

        async def gather() -> list[T]:
            return [one async for one in found]

        return self.run(gather())

    def close(self) -> None:
        """End loop and threads."""
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
