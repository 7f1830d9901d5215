"""Updates: a caller changes a run and gets an answer. Typed objects, or methods of the class form."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property, partial
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, overload

from ..codec.payloads import Adapter, Signature, adapter
from ..core.values import Payload
from .messages import inside, mailbox

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class UpdateHandler(NamedTuple):
    """How a run answers one kind of update. `unbind` decodes, `encode` raises DoesNotRoundTrip."""

    fn: Callable[..., Any]
    validator: Callable[..., Any] | None
    unbind: Callable[[Payload], tuple[tuple[Any, ...], dict[str, Any]]]
    encode: Callable[[Any], Payload]


class Update(Generic[T, R]):
    """A kind of update with one argument: `app.update("name", Argument, Result)`."""

    def __init__(self, name: str, argument: type[T], result: type[R]) -> None:
        self.name = name
        self.argument: Adapter[T] = adapter(argument)
        self.result: Adapter[R] = adapter(result)

    def handle(
        self, with_: Callable[[T], R | Coroutine[Any, Any, R]], *, validator: Callable[[T], None] | None = None
    ) -> None:
        """From workflow code: answer by calling `with_`, which may await steps.

        `validator` is called first, may read the run's variables and change nothing; if it raises, the caller gets
        that, and nothing is written.
        """
        mailbox(inside(f"update {self.name}.handle()")).updates[self.name] = UpdateHandler(
            with_, validator, self._unbind, self._encode
        )

    def _unbind(self, payload: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.argument.decode(payload),), {}

    def _encode(self, value: Any) -> Payload:
        return self.result.round_trip(value, f"result of update {self.name}")[0]


class UpdateMethod(Generic[P, R_co]):
    """A method of the class form that takes an update of its name."""

    __orchestrator__ = "update"

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.name = fn.__name__
        self.check: Callable[..., Any] | None = None
        self.__doc__ = fn.__doc__

    @cached_property
    def signature(self) -> Signature:
        """Parameters and result. Raises MissingHint."""
        return Signature(self.fn, skip_self=True)

    def validator(self, fn: Callable[Concatenate[S, P], None], /) -> Callable[Concatenate[S, P], None]:
        """A method with the same parameters that is called first: if it raises, nothing is written."""
        self.check = fn
        return fn

    def on(self, obj: object) -> UpdateHandler:
        """The handler of one run's object."""
        check = None if self.check is None else partial(self.check, obj)
        return UpdateHandler(partial(self.fn, obj), check, self.signature.unbind, self._encode)

    def _encode(self, value: Any) -> Payload:
        return self.signature.result.round_trip(value, f"result of update {self.name}")[0]

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
        """A call's arguments. Raises TypeError, DoesNotRoundTrip."""
        return self.signature.bind(args, kwargs)


@overload
def update(fn: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /) -> UpdateMethod[P, R]: ...
@overload
def update(fn: Callable[Concatenate[S, P], R], /) -> UpdateMethod[P, R]: ...
def update(fn: Callable[..., Any], /) -> UpdateMethod[..., Any]:
    """Class form: a method that takes an update of its name. `@<name>.validator` may make another one its validator."""
    return UpdateMethod(fn)
