"""Sagas: what undoes each completed step is registered as it completes, and runs in reverse when the rest goes wrong.

A compensation is an ordinary durable step (or child, or `async def`): retried, recorded and replayed like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from ..errors import CompensationFailed, ConfigurationError
from .calls import Called
from .loop import RunLoop, call_site, running_loop

if TYPE_CHECKING:
    from .turn import LiveRun

P = ParamSpec("P")
R = TypeVar("R")


class _Compensation(NamedTuple):
    undo: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    call_site: str


class Saga:
    """`async with Saga() as saga:` in workflow code. Left by a failure or a cancellation, it compensates in reverse.

    It compensates for a cancellation, for errors that would fail the run, and for TimeoutError. Any other exception is
    a bug: the run parks with nothing undone, and goes on after a fixed deploy. A run that is terminated, or whose time
    is over, runs no code any more: nothing is compensated.
    """

    def __init__(self) -> None:
        self._compensations: list[_Compensation] = []
        self._under_way: list[asyncio.Future[None]] = []

    def add(self, undo: Callable[P, Awaitable[Any]], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Register `undo(*args, **kwargs)`: a step, a workflow or an `async def`."""
        self._compensations.append(_Compensation(undo, args, kwargs, call_site()))

    async def do(self, call: Coroutine[Any, Any, R], undo: Callable[[R], Awaitable[Any]], /) -> R:
        """Await `call`; once it completed, register `undo` with its result."""
        site, ended = call_site(), _inside().create_future()
        self._under_way.append(ended)
        try:
            result = await call
            self._compensations.append(_Compensation(undo, (result,), {}, site))
        finally:
            self._under_way.remove(ended)
            ended.set_result(None)
        return result

    async def compensate(self) -> None:
        """Run what is registered, the newest first, in a task that no cancellation reaches. Once: the list is empty
        then.

        What `do` still waits for ends first, and is undone too. Each runs even if one before it failed. A cancellation
        that comes meanwhile is raised at the end. Raises CompensationFailed naming those that failed for good.
        """
        loop = _inside()
        if not (self._compensations or self._under_way):
            return
        work = loop.create_task(self._in_reverse(loop))
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError as error:
                cancelled = error
            except Exception:
                break
        failed = work.result()
        if failed:
            said = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failed)
            raise CompensationFailed(
                f"{len(failed)} of this saga's compensations failed for good ({said}); the others ran. What they were"
                " to undo stands: undo it by hand"
            ) from failed[0][1]
        if cancelled is not None:
            raise cancelled

    async def _in_reverse(self, loop: RunLoop) -> list[tuple[str, Exception]]:
        failed: list[tuple[str, Exception]] = []
        while self._compensations or self._under_way:
            if self._under_way:
                await self._under_way[0]
                continue
            undo, args, kwargs, site = self._compensations.pop()
            try:
                call = undo(*args, **kwargs)
                if isinstance(call, Called):
                    call.call_site = f"{site}, compensation"
                await call
            except Exception as error:
                if not _is_outcome(loop, error):
                    raise
                failed.append((getattr(undo, "__name__", "compensation"), error))
        return failed

    async def __aenter__(self) -> Saga:
        _inside()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            await self.compensate()
        elif isinstance(error, Exception):
            loop = _inside()
            if _is_outcome(loop, error):
                await self.compensate()
            else:
                said = f"{type(error).__name__}: {error}"
                _run(loop).bug(f"{said}: it left a saga, which compensates only for what fails the run", error)


def _is_outcome(loop: RunLoop, error: BaseException) -> bool:
    """Whether an error is a result of the run's work, not a bug of its code."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_outcome(loop, one) for one in error.exceptions)
    run = _run(loop)
    return isinstance(error, TimeoutError) or run.code.on_bug == "fail" or run.fails_the_run(error)


def _inside() -> RunLoop:
    loop = running_loop()
    if loop is None:
        raise ConfigurationError("a Saga belongs in workflow code")
    return loop


def _run(loop: RunLoop) -> LiveRun:
    run: LiveRun = loop.run  # type: ignore[assignment]
    return run
