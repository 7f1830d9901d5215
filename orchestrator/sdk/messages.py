"""Signals and queries: typed objects of the application, shared by workflow code and its callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from ..codec.payloads import Adapter, adapter
from ..core.values import Payload
from ..core.waits import HEARD, KEPT_MS, Heard
from ..errors import ConfigurationError
from .calls import send_signal
from .loop import RunFuture, RunLoop, running_loop

if TYPE_CHECKING:
    from .updates import UpdateHandler

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Came(NamedTuple):
    """A signal as it came: the place of its event in the history, and what it brought."""

    seq: int
    payload: Payload


class Mailbox:
    """A run's signals that nobody took yet, and who waits, by name."""

    def __init__(self) -> None:
        self.values: dict[str, list[Came]] = {}
        self.waiters: dict[str, list[RunFuture]] = {}
        self.seen: dict[tuple[str, bytes], int] = {}
        """The number of the newest event that a wait of this topic and match got."""
        self.answers: dict[str, tuple[Callable[[], Any], Adapter[Any]]] = {}
        self.updates: dict[str, UpdateHandler] = {}

    def heard(self, now_ms: int) -> tuple[Heard, ...]:
        """What a run that continues this one need not hear again: of what is still kept, the newest."""
        recent = sorted((number, *key) for key, number in self.seen.items() if number > now_ms - 2 * KEPT_MS)
        return tuple(Heard(name, Payload(data=match), number) for number, name, match in recent[-HEARD:])

    def untaken(self) -> tuple[int, ...]:
        """The places of the signals that nobody took, by name."""
        return tuple(came.seq for kept in self.values.values() for came in kept)

    def put(self, name: str, came: Came) -> None:
        """A delivery: the longest waiting takes it, else it is kept."""
        waiters = self.waiters.get(name, [])
        while waiters:
            future = waiters.pop(0)
            if not future.done():
                future.set_result(came)
                return
        self.values.setdefault(name, []).append(came)

    def put_back(self, name: str, came: Came) -> None:
        """Who took it was cancelled before it saw it: the next who waits gets it, first."""
        for future in self.waiters.get(name, []):
            if not future.done():
                future.set_result(came)
                return
        self.values.setdefault(name, []).insert(0, came)

    def waited_for(self) -> list[str]:
        """Names of signals that code waits for."""
        return sorted(name for name, waiters in self.waiters.items() if any(not one.done() for one in waiters))


def mailbox(loop: RunLoop) -> Mailbox:
    """Of the loop's run."""
    found: Mailbox = loop.run.mailbox  # type: ignore[attr-defined]
    return found


def inside(what: str) -> RunLoop:
    """The loop of the run whose code calls. Raises ConfigurationError outside of one."""
    loop = running_loop()
    if loop is None:
        raise ConfigurationError(f"{what} belongs in workflow code; from outside use a handle of the run")
    return loop


class Signal(Generic[T]):
    """A message to a run: durable once acknowledged, kept until code takes it."""

    def __init__(self, name: str, hint: type[T]) -> None:
        self.name = name
        self.adapter: Adapter[T] = adapter(hint)

    @overload
    async def wait(self) -> T: ...
    @overload
    async def wait(self, *, timeout: timedelta) -> T | None: ...
    async def wait(self, *, timeout: timedelta | None = None) -> T | None:
        """The next value, in the order of history; None when `timeout` (durable) is over first."""
        came = await self._next(None if timeout is None else timeout.total_seconds())
        return None if came is None else self.adapter.decode(came.payload)

    async def batch(self, size: int, *, within: timedelta) -> list[T]:
        """The next values together, in the order of history: `size` of them, or those that came until `within`
        (durable) after the first was taken. Waits for the first as long as it takes.

        Who is cancelled meanwhile has taken none. Raises ConfigurationError for a size below 1.
        """
        if size < 1:
            raise ConfigurationError(f"signal {self.name}.batch({size}): a batch has at least one value")
        loop, found = inside(f"signal {self.name}.batch()"), [await self._first()]
        try:
            async with asyncio.timeout(within.total_seconds()):
                while len(found) < size:
                    found.append(await self._first())
        except TimeoutError:
            pass
        except BaseException:
            if not loop.evicting:
                for came in reversed(found):
                    mailbox(loop).put_back(self.name, came)
            raise
        return [self.adapter.decode(came.payload) for came in found]

    async def _first(self) -> Came:
        came = await self._next(None)
        assert came is not None
        return came

    async def _next(self, timeout_s: float | None) -> Came | None:
        loop = inside(f"signal {self.name}.wait()")
        box = mailbox(loop)
        kept = box.values.get(self.name)
        if kept:
            return kept.pop(0)
        future = loop.create_future()
        box.waiters.setdefault(self.name, []).append(future)
        try:
            async with asyncio.timeout(timeout_s):
                came: Came = await future
        except BaseException as error:
            if future in box.waiters[self.name]:
                box.waiters[self.name].remove(future)
            elif not loop.evicting and not future.cancelled():
                box.put_back(self.name, future.result())
            if timeout_s is not None and isinstance(error, TimeoutError):
                return None
            raise
        return came

    def send(self, workflow_id: str, value: T) -> None:
        """From workflow code: signal another workflow."""
        payload, _ = self.adapter.round_trip(value, f"signal {self.name}")
        send_signal(inside(f"signal {self.name}.send()"), workflow_id, self.name, payload)


class Query(Generic[T]):
    """A read-only question that a run answers."""

    def __init__(self, name: str, hint: type[T]) -> None:
        self.name = name
        self.adapter: Adapter[T] = adapter(hint)

    def answer(self, with_: Callable[[], T]) -> None:
        """From workflow code: answer by calling `with_`, which may read the run's variables and change nothing."""
        mailbox(inside(f"query {self.name}.answer()")).answers[self.name] = (with_, self.adapter)


def signal(fn: F, /) -> F:
    """Class form: a method that takes a signal of its name."""
    fn.__orchestrator__ = "signal"  # type: ignore[attr-defined]
    return fn


def query(fn: F, /) -> F:
    """Class form: a method that answers a query of its name."""
    fn.__orchestrator__ = "query"  # type: ignore[attr-defined]
    return fn
