"""One attempt in the process that carries it out: finds the code, runs it, turns whatever happens into an outcome."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from orchestrator.codec.payloads import encode_failure
from orchestrator.core.retry import NOT_STARTED
from orchestrator.core.values import NOTHING, Failure, Payload
from orchestrator.failpoints import failpoint
from orchestrator.sdk.execution import UNKNOWN, StepCall, cancelled
from orchestrator.sdk.step import StepInfo, run_step
from orchestrator.telemetry import tracing

from .heartbeat import Heartbeat, interval_s

Outcome = tuple[Payload, Failure | None]
Later = Callable[[float, Callable[[], None]], None]


class Attempt:
    """An attempt of a step on its way. `beat` sends heartbeat details to whoever asked for the step."""

    def __init__(self, app: Any, call: StepCall, beat: Callable[[Payload], None], later: Later) -> None:
        self.call = call
        self.code = app.registry.step(call.name)
        self._declared = app.registry.errors
        self._heartbeat = Heartbeat(interval_s(call.heartbeat_ms), beat, later)
        self._cancelled = False
        self._stop: Callable[[], object] | None = None
        self._info = StepInfo(
            workflow_id=call.workflow_id,
            run_id=call.run_id,
            step=call.step,
            name=call.name,
            attempt=call.attempt,
            idempotency_key=call.idempotency_key,
            last_details=call.details,
            heartbeat_ms=call.heartbeat_ms,
            beat=self._heartbeat.beat,
            is_cancelled=lambda: self._cancelled,
            blocking=self.blocking,
            trace=call.trace,
        )

    def _attributes(self) -> dict[str, str | int]:
        """What a span says of the attempt."""
        call = self.call
        return {
            "orchestrator.workflow_id": call.workflow_id,
            "orchestrator.run_id": call.run_id,
            "orchestrator.step": call.step,
            "orchestrator.attempt": call.attempt,
        }

    @property
    def blocking(self) -> bool:
        """Whether the step's function holds its thread until it ends."""
        return self.code is not None and not inspect.iscoroutinefunction(self.code.fn)

    def cancel(self) -> None:
        """Ask the attempt to end, from any thread: its task is cancelled, a blocking function sees the flag.

        Once: the word comes again, from the engine or with the end of its run, and would cut off what it tidies up.
        """
        if self._cancelled:
            return
        self._cancelled = True
        if self._stop is not None:
            self._stop()

    def run_blocking(self) -> Outcome:
        """Carry a blocking step out on this thread."""
        coroutine = self._carry_out()
        try:
            coroutine.send(None)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        coroutine.close()
        why = f"{self.call.where()}: its function returned something to await; declare it with async def"
        return NOTHING, Failure("TypeError", why, retryable=False)

    async def run(self) -> Outcome:
        """Carry the step out as the current task."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is not None:
            self._stop = partial(loop.call_soon_threadsafe, task.cancel)
        return await self._carry_out()

    async def _carry_out(self) -> Outcome:
        result, failure = NOTHING, self._refusal()
        if failure is None:
            try:
                with tracing.carrying_out(self.call.name, self.call.trace, self._attributes):
                    result = await run_step(self.code, self.call.arguments, self._info)
                failpoint("K5")
            except BaseException as error:  # a step's sys.exit() or KeyboardInterrupt ends the step, not its neighbours
                failure = self._failure(error)
        self._stop = None
        self._heartbeat.close(flush=failure is not None)
        return result, failure

    def _refusal(self) -> Failure | None:
        call = self.call
        if self._cancelled:
            return cancelled(call, "before it began")
        if call.begin_before and time.monotonic() > call.begin_before:
            return Failure(NOT_STARTED, f"{call.where()} was not begun: its time to begin had passed")
        if self.code is None:
            return Failure(
                UNKNOWN, f"{call.where()}: this application has no such step; deploy the code that defines it"
            )
        return None

    def _failure(self, error: BaseException) -> Failure:
        if self._cancelled and isinstance(error, asyncio.CancelledError):
            return cancelled(self.call, "while it ran")
        try:
            return encode_failure(error, self._declared)
        except Exception as second:  # the error's own __str__ or fields: a step that failed must still be heard of
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            return Failure(kind, f"{self.call.where()} failed, and its error cannot be written: {second!r}")
