"""`orchestrator dev` replays every run that ended in a second process with another hash seed, beside the engine.

Code that walks over a set, or keeps state between runs, repeats itself in the process that made the history.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from orchestrator.client.calls import Calls
from orchestrator.client.views import OPEN, RunSummary
from orchestrator.errors import Divergence, OrchestratorError
from orchestrator.testing.replayer import History, in_second_process

from .output import say

log = logging.getLogger(__name__)

LOOK_S = 2.0
LAST_LOOK_S = 5.0
"""How long the last look may hold up the end."""
HEARD_WITHIN_S = 0.2
AT_ONCE = 50
"""Runs that one process replays; more wait for the next look."""
LISTED = 1_000


class Repeats:
    """Looks for runs that began since the code was loaded and have ended, and says which do not repeat themselves."""

    def __init__(
        self, reference: str, connect: Callable[[], AbstractAsyncContextManager[Calls]], blobs: Path | None = None
    ) -> None:
        self._reference = reference
        self._blobs = blobs
        self._connect = connect
        self._since_ms = 0
        self._seen: set[tuple[str, str]] = set()
        self._once_more = True
        self._cancel: Callable[[], object] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="repeats", daemon=True)

    def start(self) -> None:
        """Look every two seconds, on a thread of its own."""
        self.renew()
        self._thread.start()

    def renew(self) -> None:
        """The code is another from now on: runs that began before are none of its."""
        self._since_ms = time.time_ns() // 1_000_000

    def stop(self, once_more: bool) -> None:
        """End, after a last look, of a few seconds at most, if the engine is still there."""
        self._once_more = once_more
        self._stopped.set()
        if not self._thread.is_alive():
            # Ctrl-C came before the first look.
            return
        self._wait(LAST_LOOK_S if once_more else 0.0)
        if self._thread.is_alive() and self._cancel is not None:
            self._cancel()
        self._wait(LAST_LOOK_S)

    def _wait(self, timeout_s: float) -> None:
        """For the thread's end, in short rounds: a signal that another thread got is heard at the next one."""
        until = time.monotonic() + timeout_s
        while self._thread.is_alive() and (left_s := until - time.monotonic()) > 0:
            self._thread.join(min(HEARD_WITHIN_S, left_s))

    def _serve(self) -> None:
        while not self._stopped.wait(LOOK_S):
            self._safely()
        if self._once_more:
            self._safely()

    def _safely(self) -> None:
        try:
            asyncio.run(self._connected())
        except (OrchestratorError, OSError, asyncio.CancelledError) as error:
            # No engine yet, or none any more: what ended is still there at the next look.
            log.debug("runs were not looked at: %s", error)
        finally:
            self._cancel = None

    async def _connected(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._cancel = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
        async with self._connect() as calls:
            await self.look(calls)

    async def look(self, calls: Calls) -> None:
        """Replay what has ended since the last look; a divergence is said in one line."""
        since_ms = self._since_ms
        ended = [
            run
            async for run in calls.runs("", "", LISTED, ())
            if run.status not in OPEN
            and run.started_at_ms >= since_ms
            and (run.workflow_id, run.run_id) not in self._seen
        ][:AT_ONCE]
        histories = [await _history(calls, run) for run in ended]
        if not histories or since_ms != self._since_ms:
            return
        problem = await self._diverged(histories)
        alone = [await self._diverged([one]) for one in histories] if problem and len(histories) > 1 else [problem]
        for found in filter(None, alone):
            say(f"does not repeat itself: {found}")
        self._seen.update((run.workflow_id, run.run_id) for run in ended)

    async def _diverged(self, histories: list[History]) -> str:
        try:
            await in_second_process(self._reference, histories, self._blobs)
        except Divergence as error:
            return " ".join(str(error).split())
        return ""


async def _history(calls: Calls, run: RunSummary) -> History:
    events = [event.raw async for event in calls.history(run.workflow_id, run.run_id)]
    return run.workflow_id, run.run_id, events
