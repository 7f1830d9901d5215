"""Updates from outside: begun, waited for, found again by their id."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

from orchestrator.codec.payloads import decode_failure
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Failure
from orchestrator.errors import RunClosed, UpdateFailed, UpdateRejected
from orchestrator.sdk.updates import Update, UpdateMethod

from .calls import Calls
from .code import update_of, update_result
from .requests import Request
from .results import seconds

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Declared = Mapping[str, type[BaseException]]


class Target(NamedTuple):
    """The run that an update is for (`run_id` "": the newest one), and its application's declared errors."""

    calls: Calls
    workflow_id: str
    run_id: str
    declared: Declared


class UpdateHandle(Generic[R_co]):
    """An update that a run accepted. Find it again with `handle.update_handle(update, id)`."""

    def __init__(self, target: Target, update: Update[Any, R_co] | UpdateMethod[..., R_co], update_id: str) -> None:
        self.id = update_id
        self.workflow_id = target.workflow_id
        self.run_id = target.run_id
        self._target = target
        self._update = update

    def __repr__(self) -> str:
        return f"UpdateHandle({self.id!r} of {self.workflow_id!r})"

    async def result(self, timeout: timedelta | float | None = None) -> R_co:
        """Wait for the answer. Without `timeout` for ever.

        Raises the application's declared error that the handler raised, or UpdateFailed for any other; RunClosed when
        the run ended before the handler did; WorkflowNotFound when the run never accepted the update; ReplyTimeout.
        """
        calls = self._target.calls
        reply = await calls.update_outcome(self.workflow_id, self.run_id, self.id, seconds(timeout))
        try:
            return update_result(self._update, update_answer(reply, self._update.name).result)
        except UpdateFailed as failed:
            if reply.failure is not None and reply.failure.type in self._target.declared:
                raise decode_failure(reply.failure, self._target.declared) from failed
            raise


def update_answer(reply: Reply, name: str) -> Reply:
    """An answer if it is one. Raises UpdateFailed, and RunClosed when the run ended before the handler did."""
    which = f"update {name} of {reply.workflow_id}/{reply.run_id}"
    if reply.code == "closed":
        raise RunClosed(
            f"{which} was accepted, and then the run ended ({reply.message}) before the handler did",
            code="run_closed",
            workflow_id=reply.workflow_id,
            run_id=reply.run_id,
        )
    if reply.code == "failed":
        failure = reply.failure or Failure("UpdateFailed", "it left no message")
        raise UpdateFailed(
            f"{which} failed with {failure.type}: {failure.message}",
            type=failure.type,
            details=failure.details.data.decode(errors="replace"),
        )
    return reply


async def begun(
    target: Target,
    update: Update[Any, R] | UpdateMethod[..., R],
    request: Request,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> UpdateHandle[R]:
    """Send an update; returns when the run has accepted it."""
    name, payload = update_of(update, args, kwargs)
    try:
        reply = await target.calls.update(target.workflow_id, name, payload, target.run_id, request)
    except UpdateRejected as error:
        if error.failure is not None and error.failure.type in target.declared:
            raise decode_failure(error.failure, target.declared) from error
        raise
    return UpdateHandle(target._replace(run_id=reply.run_id), update, reply.command_id)


class Updates:
    """What can be updated: a handle of a run, or a start that is to come first."""

    async def _target(self) -> tuple[Target, Request]:
        raise NotImplementedError

    @overload
    async def start_update(self, update: Update[T, R], value: T, /) -> UpdateHandle[R]: ...
    @overload
    async def start_update(
        self, method: UpdateMethod[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> UpdateHandle[R]: ...
    async def start_update(self, update: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Send an update (an `app.update(...)`, or an `@update` method with its arguments), until it is accepted.

        The id of `using(command_id=...)`, else a new one, is the update's: sent again, it is the same update.
        Raises what the validator raised if that is a declared error, else UpdateRejected; RunClosed, WorkflowNotFound,
        CommandRejected (`unknown_update`, `not_running`, `no_code`), ReplyTimeout, DoesNotRoundTrip.
        """
        target, request = await self._target()
        return await begun(target, update, request, args, kwargs)

    @overload
    async def update(self, update: Update[T, R], value: T, /) -> R: ...
    @overload
    async def update(self, method: UpdateMethod[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def update(self, update: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Send an update and wait for its answer. Raises as `start_update` and `UpdateHandle.result`."""
        started: UpdateHandle[Any] = await self.start_update(update, *args, **kwargs)
        return await started.result()
