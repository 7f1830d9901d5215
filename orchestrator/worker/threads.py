"""Steps in threads of this process: `isolation="thread"`, notebooks, tests with fakes. Nothing shields from a crash."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Set
from functools import partial
from typing import Any

from orchestrator.core.values import NOTHING, Payload
from orchestrator.sdk.execution import ExecutorOptions, Report, StepCall, StepReport, alive, cancelled, outcome

from .heartbeat import thread_timer
from .running import Attempt, Outcome

log = logging.getLogger(__name__)

_LEAVE_S = 1.0


class ThreadExecutor:
    """Async steps on one loop in a thread of its own, blocking ones in a thread each (`StepExecutor`).

    `app` is the application itself: code defined in a notebook cell works. A blocking step that ignores its
    cancellation keeps its thread and its slot. `report` is called from the threads that run steps.
    """

    def __init__(self, app: Any, options: ExecutorOptions, report: Report) -> None:
        self._app = app
        self._options = options
        self._report = report
        self._changed = threading.Condition()
        self._running: dict[str, Attempt] = {}
        self._telling: set[str] = set()
        self._waiting: OrderedDict[str, Attempt] = OrderedDict()
        self._blocked = 0
        self._reserved: set[str] = set()
        self._refused = self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="step-loop", daemon=True)
        self._thread.start()

    def start(self, call: StepCall) -> bool:
        """See `StepExecutor.start`."""
        with self._changed:
            if call.token in self._running:
                return True
            if self._stopping or not self._room(call):
                self._refused = True
                return False
            attempt = Attempt(self._app, call, partial(self._beat, call), thread_timer)
            self._reserved.discard(call.token)
            self._running[call.token] = attempt
            if attempt.blocking and not call.guarded and self._blocked >= self._options.slots:
                self._waiting[call.token] = attempt
                return True
            self._blocked += attempt.blocking and not call.guarded
            self._begin(attempt)
        return True

    def start_many(self, calls: list[StepCall]) -> list[StepCall]:
        """See `StepExecutor.start_many`."""
        return [call for call in calls if not self.start(call)]

    def cancel(self, token: str) -> None:
        """See `StepExecutor.cancel`."""
        with self._changed:
            attempt = self._running.get(token)
            if attempt is None:
                return
            early = self._waiting.pop(token, None) is not None
            if early:
                del self._running[token]
                self._telling.add(token)
        attempt.cancel()
        if early:
            self._conclude(outcome(attempt.call, NOTHING, cancelled(attempt.call, "before it began")))

    def withdraw(self, token: str) -> bool:
        """See `StepExecutor.withdraw`."""
        with self._changed:
            if self._waiting.pop(token, None) is None:
                return False
            del self._running[token]
            return True

    def slot_free(self) -> bool:
        """See `StepExecutor.slot_free`."""
        with self._changed:
            free = not self._stopping and self._guarded() < self._options.guarded_slots
            self._refused = self._refused or not free
            return free

    def reserve(self, token: str) -> bool:
        """See `StepExecutor.reserve`."""
        with self._changed:
            if token not in self._reserved and self._guarded() >= self._options.guarded_slots:
                self._refused = True
                return False
            self._reserved.add(token)
            return True

    def unreserve(self, token: str) -> None:
        """See `StepExecutor.unreserve`."""
        with self._changed:
            self._reserved.discard(token)
        self._freed()

    def running(self) -> Set[str]:
        """See `StepExecutor.running`."""
        with self._changed:
            return frozenset(self._running) | self._telling

    def waiting(self, token: str) -> bool:
        """See `StepExecutor.waiting`."""
        with self._changed:
            return token in self._waiting

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs; whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running and not self._telling, timeout_s)

    def stop(self, grace_s: float) -> Set[str]:
        """See `StepExecutor.stop`."""
        with self._changed:
            self._stopping = True
        self.wait_idle(grace_s)
        with self._changed:
            cut = frozenset(self._running)
            attempts = list(self._running.values())
            self._waiting.clear()
            self._running.clear()
        if not self._loop.is_closed():
            for attempt in attempts:
                attempt.cancel()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        return cut

    # --- inside ------------------------------------------------------------------------------------------------------

    def _room(self, call: StepCall) -> bool:
        if call.guarded:
            return call.token in self._reserved or self._guarded() < self._options.guarded_slots
        return len(self._waiting) < self._options.backlog and len(self._running) < self._options.shared_limit

    def _guarded(self) -> int:
        return len(self._reserved) + sum(attempt.call.guarded for attempt in self._running.values())

    def _begin(self, attempt: Attempt) -> None:
        if attempt.blocking:
            threading.Thread(target=self._block, args=(attempt,), name="step", daemon=True).start()
        else:
            self._loop.call_soon_threadsafe(self._spawn, attempt)

    def _spawn(self, attempt: Attempt) -> None:
        task = self._loop.create_task(attempt.run())
        task.add_done_callback(lambda done: None if done.cancelled() else self._end(attempt, done.result()))

    def _block(self, attempt: Attempt) -> None:
        self._end(attempt, attempt.run_blocking())

    def _end(self, attempt: Attempt, end: Outcome) -> None:
        call = attempt.call
        following = None
        with self._changed:
            if self._running.pop(call.token, None) is None:
                return
            self._telling.add(call.token)
            if attempt.blocking and not call.guarded:
                self._blocked -= 1
                if self._waiting:
                    _, following = self._waiting.popitem(last=False)
                    self._blocked += 1
        self._conclude(outcome(call, *end))
        with self._changed:
            if following is not None and not self._loop.is_closed():
                self._begin(following)
        self._freed()

    def _conclude(self, report: StepReport) -> None:
        """Report an outcome.

        Until that is done, the attempt counts as running: nothing is idle that will yet be heard of.
        """
        self._say(report)
        with self._changed:
            self._telling.discard(report.body.token)
            self._changed.notify_all()

    def _freed(self) -> None:
        with self._changed:
            refused, self._refused = self._refused, False
        if refused and self._options.freed is not None:
            self._options.freed()

    def _beat(self, call: StepCall, details: Payload) -> None:
        self._say(alive(call, details))

    def _say(self, report: StepReport) -> None:
        try:
            self._report(report)
        except Exception:
            log.exception("the receiver of step reports failed on one of workflow %r", report.workflow_id)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            pending = asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            if pending:
                self._loop.run_until_complete(asyncio.wait(pending, timeout=_LEAVE_S))
        finally:
            self._loop.close()
