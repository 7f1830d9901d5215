"""Steps: what is recorded.

Inside a run a call becomes a durable step; anywhere else it is a plain call of the function.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from ..codec.payloads import Signature, adapter
from ..core import values
from ..core.values import DEFAULT_STEP_OPTIONS, NOTHING, LimitNeed, Payload, StepOptions
from ..errors import ConfigurationError
from .calls import StepCalled
from .limits import Limit, check_priority, checked, needs_of
from .loop import call_site, running_loop
from .maps import Failed as Failed, map_items
from .retry import RetryPolicy

P = ParamSpec("P")
P2 = ParamSpec("P2")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Flow = tuple[tuple[Limit, ...], int]
"""Limits and priority."""
OnCrash = Literal["retry", "fail", "park"]


class Options(TypedDict, total=False):
    """Options of a step. `retry` is a number of attempts or a whole policy; durations are timedeltas.

    `timeout` is another name of `start_to_close`. `on_crash` says what an attempt that ended ambiguously means;
    `isolation="thread"` runs the step in the engine's process; `compare="name"` lets its arguments change. An
    attempt begins when it holds a slot of each of `limits`; of those that wait a higher `priority` comes first.
    """

    queue: str
    retry: int | RetryPolicy
    timeout: timedelta
    start_to_close: timedelta
    schedule_to_close: timedelta
    schedule_to_start: timedelta
    heartbeat: timedelta
    on_crash: OnCrash
    cancellation: Literal["try", "wait", "abandon"]
    isolation: Literal["process", "thread"]
    roundtrip: Literal["strict", "loose"]
    compare: Literal["arguments", "name"]
    limits: Iterable[Limit]
    priority: int


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)


_DURATIONS = {
    "timeout": "start_to_close_ms",
    "start_to_close": "start_to_close_ms",
    "schedule_to_close": "schedule_to_close_ms",
    "schedule_to_start": "schedule_to_start_ms",
    "heartbeat": "heartbeat_ms",
}
_CHOICES = {"on_crash": ("retry", "fail", "park"), "cancellation": ("try", "wait", "abandon")}


def step_options(name: str, base: StepOptions, given: Options) -> StepOptions:
    """Options as they are recorded. Raises ConfigurationError naming the step and the option."""
    changes: dict[str, Any] = {}
    for option, value in given.items():
        if option in _DURATIONS:
            if not isinstance(value, timedelta) or value <= timedelta():
                raise ConfigurationError(f"step {name}: {option} is a positive timedelta, not {value!r}")
            changes[_DURATIONS[option]] = _ms(value)
        elif option == "retry":
            changes["retry"] = _retry(name, base, value)
        elif option in _CHOICES and value not in _CHOICES[option]:
            raise ConfigurationError(f"step {name}: {option} is one of {', '.join(_CHOICES[option])}, not {value!r}")
        elif option in ("queue", "on_crash", "cancellation"):
            changes[option] = value
        elif option not in ("isolation", "roundtrip", "compare", "limits", "priority"):
            raise ConfigurationError(f"step {name}: there is no option {option!r}")
    return base._replace(**changes)


def _retry(name: str, base: StepOptions, given: object) -> values.RetryPolicy:
    if isinstance(given, RetryPolicy):
        return given.recorded()
    if isinstance(given, int) and given >= 0:
        return base.retry._replace(max_attempts=given)
    raise ConfigurationError(f"step {name}: retry is a number of attempts or a RetryPolicy, not {given!r}")


class StepCode:
    """A step's definition, found by name in the process that carries it out."""

    def __init__(self, fn: Callable[..., Any], name: str, given: Options) -> None:
        self.fn = fn
        self.name = name
        self.options = step_options(name, DEFAULT_STEP_OPTIONS, given)
        self.isolation: str = given.get("isolation", "process")
        self.loose = given.get("roundtrip") == "loose"
        self.compare_arguments = given.get("compare") != "name"
        self.limits = checked(f"step {name}", given.get("limits", ()), whole_run=False)
        self.priority = check_priority(f"step {name}", given.get("priority", 0))
        self.bound: Any = None
        self.is_method = _is_method(fn)
        self._signature: Signature | None = None

    @property
    def signature(self) -> Signature:
        """Parameters and result; raises MissingHint. Built at first use: hints may name what is defined below."""
        if self._signature is None:
            self._signature = Signature(self.fn, skip_self=self.is_method)
        return self._signature

    @property
    def owner(self) -> str:
        """The class of a method step, by qualified name."""
        return self.fn.__qualname__.rpartition(".")[0]


def _is_method(fn: Callable[..., Any]) -> bool:
    inner = fn.__qualname__.rpartition("<locals>.")[2]
    return "." in inner and next(iter(inspect.signature(fn).parameters), "") == "self"


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """What a running step may know and say about its attempt.

    `last_details` is the last heartbeat of the attempt before; `beat` and `is_cancelled` reach whoever runs the step.
    `blocking`: the step's function holds a thread, which no exception from outside reaches. `trace`: the W3C
    traceparent that the step came with, "" without one; OpenTelemetry's current span is below it.
    """

    workflow_id: str
    run_id: str
    step: str
    name: str
    attempt: int
    idempotency_key: str
    last_details: Payload = NOTHING
    heartbeat_ms: int = 0
    beat: Callable[[Payload], None] | None = None
    is_cancelled: Callable[[], bool] | None = None
    blocking: bool = False
    trace: str = ""

    @property
    def cancelled(self) -> bool:
        """Whether the step was asked to end."""
        return self.is_cancelled is not None and self.is_cancelled()

    @property
    def details(self) -> Any:
        """What the attempt before this one said in its last heartbeat, or None."""
        return adapter(Any).decode(self.last_details)

    def heartbeat(self, details: Any = None) -> None:
        """Say that the attempt is alive; the next attempt gets `details`.

        Raises CancelledError in a step of its own thread (`def`) that was asked to end; an `async def` step gets it at
        its await.
        """
        if self.beat is not None:
            self.beat(adapter(Any).encode(details))
        if self.blocking and self.cancelled:
            raise asyncio.CancelledError(f"step {self.name} was asked to end")


_info: contextvars.ContextVar[StepInfo | None] = contextvars.ContextVar("step_info", default=None)
_PLAIN = StepInfo(
    workflow_id="", run_id="", step="", name="", attempt=1, idempotency_key="plain-call", beat=None, is_cancelled=None
)


def step_info() -> StepInfo:
    """Of the step that is running; in a plain call one that says so."""
    return _info.get() or _PLAIN


async def run_step(code: StepCode, arguments: Payload, info: StepInfo) -> Payload:
    """Carry a step out: decode its arguments, call it, encode its result with the round-trip check.

    Raises what it raises.
    """
    args, kwargs = code.signature.unbind(arguments)
    if code.is_method:
        if code.bound is None:
            raise ConfigurationError(
                f"step {code.name} is a method of {code.owner}: give this process its object with"
                f" app.bind({code.owner}(...))"
            )
        args = (code.bound, *args)
    token = _info.set(info)
    try:
        value = code.fn(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
    finally:
        _info.reset(token)
    payload, _ = code.signature.result.round_trip(value, f"result of step {code.name}", loose=code.loose)
    return payload


@lru_cache(maxsize=1_024)
def _limited(options: StepOptions, needs: tuple[LimitNeed, ...]) -> StepOptions:
    return options._replace(limits=needs)


class _Unary(Protocol[T_contra, R_co]):
    def __call__(self, item: T_contra, /) -> Coroutine[None, None, R_co]: ...


class Step(Generic[P, R_co]):
    """A step as code calls it. Always awaited; `fn` is the raw function."""

    def __init__(
        self, code: StepCode, options: StepOptions | None = None, bound: Any = None, flow: Flow | None = None
    ) -> None:
        self.code = code
        self.fn: Callable[P, Any] = code.fn
        self._options = options or code.options
        self._bound = bound
        self._flow = flow or (code.limits, code.priority)
        self.__name__ = code.name
        self.__doc__ = code.fn.__doc__
        self.__wrapped__ = code.fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[None, None, R_co]:
        loop = running_loop()
        if loop is not None:
            arguments = self.code.signature.bind(args, kwargs, loose=self.code.loose)
            options = self._options
            limits, priority = self._flow
            if limits:
                needs = needs_of(limits, self.fn, args, kwargs, priority)
                options = _limited(options, needs)
            return StepCalled(loop, self.code, arguments, options)
        return self._plain(args, kwargs)

    async def _plain(self, args: Any, kwargs: Any) -> R_co:
        value = self.fn(*args, **kwargs) if self._bound is None else self.code.fn(self._bound, *args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        result: R_co = value
        return result

    def options(self, **given: Unpack[Options]) -> Step[P, R_co]:
        """The same step, carried out differently."""
        what = f"step {self.code.name}"
        flow = (
            checked(what, given.get("limits", self._flow[0]), whole_run=False),
            check_priority(what, given.get("priority", self._flow[1])),
        )
        return Step(self.code, step_options(self.code.name, self._options, given), self._bound, flow)

    @overload
    def map(
        self: _Unary[T, R], items: Iterable[T], *, concurrency: int = ..., on_error: Literal["fail"] = ...
    ) -> Coroutine[None, None, list[R]]: ...
    @overload
    def map(
        self: _Unary[T, R], items: Iterable[T], *, concurrency: int = ..., on_error: Literal["collect"]
    ) -> Coroutine[None, None, list[R | Failed]]: ...
    def map(self: Any, items: Iterable[Any], *, concurrency: int = 0, on_error: str = "fail") -> Any:
        """One step an item, at most `concurrency` at once (0: all); each commits by itself. Results in the items'
        order.

        `fail` raises the first error and cancels the rest; `collect` puts `Failed` in its place.
        """
        site = call_site() if running_loop() is not None else ""
        return map_items(self, list(items), concurrency, on_error, site)

    @overload
    def __get__(self, obj: None, owner: Any, /) -> Step[P, R_co]: ...
    @overload
    def __get__(self: Step[Concatenate[S, P2], R_co], obj: S, owner: Any = ..., /) -> Step[P2, R_co]: ...
    def __get__(self: Any, obj: Any, owner: Any = None, /) -> Any:
        return self if obj is None else Step(self.code, self._options, obj, self._flow)
