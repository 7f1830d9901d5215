"""A handle: one run (or a workflow id, whatever run is its newest), with the type of its result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from orchestrator.core.commands import ForkWorkflow
from orchestrator.core.tasks import Reply
from orchestrator.core.values import NOTHING
from orchestrator.sdk.messages import Query, Signal
from orchestrator.sdk.updates import Update, UpdateMethod

from .calls import Calls
from .code import Code, answer_of, query_of, signal_of
from .requests import Request
from .results import seconds, value_or_error
from .updates import Target, UpdateHandle, Updates
from .views import HistoryEvent, Rejection, RunDescription

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
T = TypeVar("T")


class Handle(Updates, Generic[R_co]):
    """Re-attach at any time with `client.handle(workflow, id)`. `run_id` "" follows whatever run is the newest."""

    def __init__(
        self, calls: Calls, code: Code[R_co], workflow_id: str, run_id: str = "", request: Request | None = None
    ):
        self.workflow_id = workflow_id
        self.run_id = run_id
        self._calls = calls
        self._code = code
        self._request = request or Request()

    def __repr__(self) -> str:
        return f"Handle({self.workflow_id!r}, run_id={self.run_id!r})"

    def using(
        self, *, command_id: str = "", reason: str = "", timeout: timedelta | float | None = None
    ) -> Handle[R_co]:
        """The same handle whose next command carries your idempotency key, a reason, or a time-out of its own."""
        request = Request(command_id, reason, seconds(timeout) or 0.0)
        return Handle(self._calls, self._code, self.workflow_id, self.run_id, request)

    async def result(self, timeout: timedelta | float | None = None) -> R_co:
        """Wait for the result, through every continue-as-new. Without `timeout` for ever.

        Raises the application's declared error that the run failed with, or RunFailed (a WorkflowFailed) for any other;
        RunCancelled, RunTerminated; RunParked as the client's options say; ReplyTimeout when the time is over.
        """
        outcome = await self._calls.outcome(self.workflow_id, self.run_id, seconds(timeout))
        return value_or_error(outcome, self._code)

    @overload
    async def signal(self, signal: Signal[T], value: T, /) -> None: ...
    @overload
    async def signal(
        self,
        handler: Callable[Concatenate[Any, P], Coroutine[Any, Any, None] | None],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None: ...
    async def signal(self, signal: Any, /, *args: Any, **kwargs: Any) -> None:
        """Deliver a signal (an `app.signal(...)`, or a handler of the class form with its arguments).

        Durable, and in order, when this returns. Raises RunClosed, WorkflowNotFound, ReplyTimeout, DoesNotRoundTrip.
        """
        name, payload = signal_of(signal, args, kwargs)
        await self._calls.signal(self.workflow_id, name, payload, self.run_id, self._request)

    @overload
    async def query(self, query: Query[T], /) -> T: ...
    @overload
    async def query(self, handler: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def query(self, query: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the run's code a question (an `app.query(...)`, or a handler of the class form with its arguments).

        Raises CommandRejected when the code has no answer, WorkflowNotFound, ReplyTimeout.
        """
        name, payload = query_of(query, args, kwargs)
        return answer_of(query, await self._calls.code_query(self.workflow_id, name, payload, self.run_id))

    async def _target(self) -> tuple[Target, Request]:
        return Target(self._calls, self.workflow_id, self.run_id, self._code.declared), self._request

    def update_handle(self, update: Update[Any, R] | UpdateMethod[..., R], update_id: str) -> UpdateHandle[R]:
        """An update that was begun before, by anyone. Asks nobody whether it was accepted."""
        target = Target(self._calls, self.workflow_id, self.run_id, self._code.declared)
        return UpdateHandle(target, update, update_id)

    async def cancel(self) -> Reply:
        """Ask the run to end; its code may clean up."""
        return await self._calls.cancel(self.workflow_id, self.run_id, self._request)

    async def terminate(self) -> Reply:
        """End the run at once."""
        return await self._calls.terminate(self.workflow_id, self.run_id, self._request)

    async def retry(self) -> Reply:
        """Let the run go on if it is parked."""
        return await self._calls.retry(self.workflow_id, self.run_id, self._request)

    async def fork(self, step: str, *, arguments: tuple[Any, ...] | None = None) -> Handle[R_co]:
        """Go on as a new run of this workflow from before a step (its id or its name; of several the last).

        What was recorded before it is reused, with other `arguments` of the workflow too if they are given; signals
        that came later are not kept. An open run ends, and handles of it follow the new one. Raises CommandRejected
        (`no_such_point`, `already_running`, `limit`, `bad_request`), WorkflowNotFound, ReplyTimeout.
        """
        payload = NOTHING if arguments is None else self._code.bind(arguments)
        return await self._forked(ForkWorkflow(self.run_id, step=step, arguments=payload))

    async def reset(self, *, event: int = 0, keep_signals: bool = True) -> Handle[R_co]:
        """Go on as a new run of this workflow from behind an event of its history, or, without one, from where the run
        failed: its failed step is attempted again. Signals that came later are kept. Raises as `fork`.
        """
        return await self._forked(ForkWorkflow(self.run_id, event=event, signals=keep_signals))

    async def _forked(self, body: ForkWorkflow) -> Handle[R_co]:
        reply = await self._calls.fork(self.workflow_id, body, self._request)
        return Handle(self._calls, self._code, self.workflow_id, reply.run_id)

    async def pause(self) -> Reply:
        """Let the run's code stand still; steps under way end and are recorded, signals and due timers wait."""
        return await self._calls.pause(self.workflow_id, self.run_id, self._request)

    async def resume(self) -> Reply:
        """Let the run go on if it is paused."""
        return await self._calls.resume(self.workflow_id, self.run_id, self._request)

    async def describe(self) -> RunDescription:
        """The run's state, and in a sentence why it waits."""
        return await self._calls.describe(self.workflow_id, self.run_id)

    def history(self, from_seq: int = 1) -> AsyncIterator[HistoryEvent]:
        """The run's events, in order."""
        return self._calls.history(self.workflow_id, self.run_id, from_seq)

    def rejections(self) -> AsyncIterator[Rejection]:
        """The commands about the run that were refused on the record, in the order of their ids: those of the last 14
        days, which is how long the engine remembers ids. A handle without a run id: of every run of its workflow id.
        """
        return self._calls.rejections(self.workflow_id, self.run_id)
