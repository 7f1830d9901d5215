"""Durable calls of workflow code.

Coroutines whose identity is fixed where they are made, and whose command is issued when awaited.
"""

from __future__ import annotations

import asyncio
import collections.abc
from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..codec.payloads import adapter
from ..core.commands import (
    AskApproval,
    AwaitEvent,
    CancelChild,
    CancelStep,
    CancelWait,
    PublishEvent,
    ScheduleStep,
    SendCancel,
    SendSignal,
    StartChild,
    WithdrawApproval,
)
from ..core.ids import step_id
from ..core.values import NOTHING, Payload, StepOptions
from ..errors import StepCancelled
from .loop import RunFuture, RunLoop, call_site

if TYPE_CHECKING:
    from .step import StepCode
    from .workflow import StartOptions, WorkflowCode


class Called(collections.abc.Coroutine[Any, None, Any]):
    """A durable call. Awaited at once, wrapped in a task, or gathered; never silently dropped."""

    __slots__ = ("_asked", "_future", "_inner", "call_site", "loop", "n", "number", "path")

    def __init__(self, loop: RunLoop) -> None:
        identity = loop.identity()
        self.loop = loop
        self.path = identity.path
        self.n = identity.next()
        self.number = loop.number()
        self.call_site = call_site()
        self._future: RunFuture | None = None
        self._inner: Generator[Any, None, Any] | None = None
        self._asked = False
        loop.unawaited[self.number] = self

    @property
    def id(self) -> str:
        """The step's (child's) identity."""
        return step_id(self.path, self.n)

    @property
    def future(self) -> RunFuture | None:
        """Pending once awaited."""
        return self._future

    def issue(self) -> None:
        """Put the command into the turn."""
        raise NotImplementedError

    def cancelled(self) -> None:
        """Whoever waited was cancelled."""

    def outlives_cancel(self) -> bool:
        """Whether a cancelled caller still waits for the outcome."""
        return False

    def describe(self) -> str:
        """What is waited for, in words."""
        raise NotImplementedError

    def _wait(self) -> Generator[Any, None, Any]:
        loop = self.loop
        loop.unawaited.pop(self.number, None)
        if self._future is not None:
            raise RuntimeError(f"cannot await the same call twice ({self.describe()} at {self.call_site})")
        self._future = loop.create_future()
        if loop.cancel_owed and asyncio.current_task(loop) is loop.main:
            # The run's cancellation comes at this await: nothing begins that would be told to end at once.
            yield from self._future
        loop.waiting[self.id] = self
        self.issue()
        try:
            return (yield from self._future)
        except asyncio.CancelledError:
            if self.id not in loop.waiting or not self.outlives_cancel() or loop.evicting:
                raise
            return (yield from self._wait_for_the_end(self._future.by_run))
        finally:
            if loop.waiting.pop(self.id, None) is not None and not (loop.evicting or self._asked):
                self.cancelled()

    def _wait_for_the_end(self, by_run: bool) -> Generator[Any, None, Any]:
        """Cancelled in mode `wait`: ask for the end once, then take the outcome, whatever it is.

        An outcome that is not the cancellation is the call's: what was done is not hidden from the code. If the run was
        cancelled (`by_run`), its next await gets the cancellation.
        """
        self._asked = True
        self.cancelled()
        try:
            while True:
                self._future = self.loop.create_future()
                try:
                    return (yield from self._future)
                except StepCancelled:
                    by_run = False
                    raise asyncio.CancelledError from None
                except asyncio.CancelledError:
                    if self.id not in self.loop.waiting:
                        by_run = False
                        raise
                    by_run = by_run or self._future.by_run
        finally:
            if by_run and not self.loop.evicting:
                self.loop.owe_cancel()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait()

    def send(self, value: None) -> Any:
        if self._inner is None:
            self._inner = self._wait()
        return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        if self._inner is None:
            self.loop.unawaited.pop(self.number, None)
            raise error[0]
        return self._inner.throw(*error)

    def close(self) -> None:
        self.loop.unawaited.pop(self.number, None)
        if self._inner is not None:
            self._inner.close()

    def __hash__(self) -> int:
        return self.number


class StepCalled(Called):
    """A call of a step."""

    __slots__ = ("arguments", "code", "options")

    def __init__(self, loop: RunLoop, code: StepCode, arguments: Payload, options: StepOptions) -> None:
        super().__init__(loop)
        self.code = code
        self.arguments = arguments
        self.options = options

    def issue(self) -> None:
        self.loop.issue(ScheduleStep(self.path, self.n, self.code.name, self.call_site, self.arguments, self.options))

    def cancelled(self) -> None:
        if self.options.cancellation != "abandon":
            self.loop.issue(CancelStep(self.id))

    def outlives_cancel(self) -> bool:
        return self.options.cancellation == "wait"

    def describe(self) -> str:
        return f"step {self.code.name}"


class ChildCalled(Called):
    """A call of a workflow inside a workflow."""

    __slots__ = ("arguments", "code", "options")

    def __init__(self, loop: RunLoop, code: WorkflowCode, arguments: Payload, options: StartOptions) -> None:
        super().__init__(loop)
        self.code = code
        self.arguments = arguments
        self.options = options

    def issue(self) -> None:
        self.loop.issue(
            StartChild(
                self.path,
                self.n,
                self.code.workflow_type,
                self.code.version,
                self.options.id,
                self.arguments,
                self.call_site,
                self.options.close_policy,
                self.options.conflict,
                self.options.reuse,
                milliseconds(self.options.start_delay),
                milliseconds(self.options.execution_timeout),
                milliseconds(self.options.run_timeout),
                memo_of(self.options.memo),
                tuple(self.options.attributes),
                self.options.summary,
                self.options.priority,
            )
        )

    def cancelled(self) -> None:
        self.loop.issue(CancelChild(self.id))

    def describe(self) -> str:
        return f"child workflow {self.code.workflow_type}"


class ApprovalCalled(Called):
    """A question to people. Its outcome is the `ApprovalDecided`, or `ApprovalExpired`."""

    __slots__ = ("expires_ms", "name", "request", "to")

    def __init__(self, loop: RunLoop, name: str, request: Payload, to: tuple[str, ...], expires_ms: int) -> None:
        super().__init__(loop)
        self.name = name
        self.request = request
        self.to = to
        self.expires_ms = expires_ms

    def issue(self) -> None:
        until_ms = self.loop.now_ms + self.expires_ms if self.expires_ms else 0
        self.loop.issue(AskApproval(self.path, self.n, self.name, self.request, self.to, until_ms, self.call_site))

    def cancelled(self) -> None:
        self.loop.issue(WithdrawApproval(self.id))

    def describe(self) -> str:
        return f"approval {self.name}"


class EventCalled(Called):
    """A wait for an event of the application. Its outcome is the `EventDelivered`."""

    __slots__ = ("after", "look_back_ms", "match", "name")

    def __init__(self, loop: RunLoop, name: str, match: Payload, look_back_ms: int, after: int) -> None:
        super().__init__(loop)
        self.name = name
        self.match = match
        self.look_back_ms = look_back_ms
        self.after = after

    def issue(self) -> None:
        since_ms = max(self.loop.now_ms - self.look_back_ms, 0)
        self.loop.issue(AwaitEvent(self.path, self.n, self.name, self.match, since_ms, self.after, self.call_site))

    def cancelled(self) -> None:
        self.loop.issue(CancelWait(self.id))

    def describe(self) -> str:
        return f"event {self.name}"


def publish_event(loop: RunLoop, name: str, payload: Payload) -> None:
    """Send an event of the application: a command of this turn, delivered by the outbox."""
    identity = loop.identity()
    loop.issue(PublishEvent(identity.path, identity.next(), name, payload, call_site()))


def memo_of(value: Any) -> Payload:
    """A memo as it is recorded. Raises DoesNotRoundTrip."""
    return NOTHING if value is None else adapter(Any).round_trip(value, "memo")[0]


def milliseconds(time: timedelta | None) -> int:
    """A duration as it is recorded; 0 for none."""
    return 0 if time is None else round(time.total_seconds() * 1000)


def send_signal(loop: RunLoop, workflow_id: str, name: str, payload: Payload) -> None:
    """Signal another workflow: a command of this turn, delivered by the outbox."""
    identity = loop.identity()
    loop.issue(SendSignal(identity.path, identity.next(), workflow_id, name, payload, call_site()))


def send_cancel(loop: RunLoop, workflow_id: str, reason: str) -> None:
    """Ask another workflow to cancel: a command of this turn, delivered by the outbox."""
    identity = loop.identity()
    loop.issue(SendCancel(identity.path, identity.next(), workflow_id, reason, call_site()))
