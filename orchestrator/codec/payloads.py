"""User values as JSON by their type hints (pydantic): encoded, decoded by the hint, compared, and only then recorded.

Code always sees the decoded value, live as in replay. By alias, bytes as base64, nan and inf kept. Never pickle.
"""

from __future__ import annotations

import builtins
import dataclasses
import inspect
import json
import traceback
import typing
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Generic, TypeVar

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError as InvalidValue,
)

from ..core.values import NOTHING, Failure, Payload
from ..errors import BlobMissing, DoesNotRoundTrip, MissingHint, StepFailed, WorkflowFailed

T = TypeVar("T")
_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")


class Adapter(Generic[T]):
    """Encodes and decodes the values of one type hint."""

    def __init__(self, hint: Any) -> None:
        self.hint = hint
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(hint, config=_CONFIG)
        except PydanticUserError as error:
            if isinstance(error, PydanticSchemaGenerationError):
                raise MissingHint(f"{hint!r} is a type that JSON by pydantic cannot carry: {error.message}") from error
            # A model brings its own configuration, and pydantic takes no second one.
            try:
                self._adapter = TypeAdapter(hint)
            except PydanticUserError as final:
                raise MissingHint(f"{hint!r} is a type that JSON by pydantic cannot carry: {final.message}") from final

    def encode(self, value: T) -> Payload:
        """The value as a payload. Raises DoesNotRoundTrip when it cannot be written."""
        try:
            # `warnings` as a word makes pydantic-core give the GIL away at every call; the round trip judges anyway.
            return Payload(data=self._adapter.dump_json(value, by_alias=True, warnings=False))
        except Exception as error:
            # pydantic-core raises several kinds, and user serialisers whatever they like.
            raise DoesNotRoundTrip(f"{_shown(value)} cannot be written as {_name(self.hint)}: {error}") from error

    def decode(self, payload: Payload) -> T:
        """The value of a payload. Raises DoesNotRoundTrip when the hint does not fit it, BlobMissing."""
        try:
            return self._adapter.validate_json(payload.data)
        except InvalidValue as error:
            if payload.blob is not None:
                raise BlobMissing(f"a value is in blob {payload.blob.name}, which was not fetched here") from error
            raise DoesNotRoundTrip(
                f"{payload.data[:200].decode(errors='replace')} is no {_name(self.hint)}: {error.errors()[0]['msg']}"
            ) from error

    def round_trip(self, value: T, where: str, *, loose: bool = False) -> tuple[Payload, T]:
        """Encode, decode by the hint, compare. Raises DoesNotRoundTrip naming `where`."""
        try:
            payload = self.encode(value)
            decoded = self.decode(payload)
        except DoesNotRoundTrip as error:
            raise DoesNotRoundTrip(f"{where}: {error}") from None
        if not loose and not _same(value, decoded):
            raise DoesNotRoundTrip(
                f"{where}: {_shown(value)} ({type(value).__name__}) comes back as {_shown(decoded)}"
                f" ({type(decoded).__name__}) by the hint {_name(self.hint)}. Give it a hint that holds it, or"
                ' roundtrip="loose" if the difference does not matter.'
            )
        return payload, decoded


def _shown(value: Any) -> str:
    """The beginning of a value, for a message."""
    try:
        return f"{value!r:.200}"
    except Exception as error:
        # One that lies too deep in itself, or whose `__repr__` fails.
        return f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"


def printable(text: str) -> str:
    """A text as the log can hold it: half characters (lone surrogates) are replaced."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def message_of(error: BaseException) -> str:
    """What an exception says, printable, even if it cannot say it."""
    try:
        return printable(str(error))
    except Exception as failed:
        # The reason may be as mute as the error itself.
        why = "" if type(failed) is type(error) else f": {failed.args[0]!s:.200}" if failed.args else ""
        return printable(f"(its message cannot be had: {type(failed).__name__}{why})")


_PLAIN = frozenset({bool, bytes, int, str, type(None)})
"""Types that hold no others, and whose values equal themselves."""


def _same(value: Any, decoded: Any) -> bool:
    """Equal, of equal types all the way down; nan equals nan."""
    if type(value) is not type(decoded):
        # PEP 484's one promotion: an int is a float.
        return type(value) is int and type(decoded) is float and value == decoded
    if type(value) in _PLAIN:
        return bool(value == decoded)
    if isinstance(value, list | tuple):
        return len(value) == len(decoded) and all(map(_same, value, decoded))
    if isinstance(value, dict):
        return value.keys() == decoded.keys() and all(_same(value[key], decoded[key]) for key in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(
            _same(getattr(value, field.name), getattr(decoded, field.name)) for field in dataclasses.fields(value)
        )
    if getattr(value, "__pydantic_private__", None) != getattr(decoded, "__pydantic_private__", None):
        return False
    fields = getattr(type(value), "model_fields", None)
    if fields:
        return all(_same(getattr(value, name), getattr(decoded, name)) for name in fields)
    return bool(value == decoded or (value != value and decoded != decoded))


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)


@lru_cache(maxsize=4_096)
def _cached(hint: Any, order: str) -> Adapter[Any]:
    """`order` keeps A | B and B | A apart: they are equal hints, and decode differently."""
    return Adapter(hint)


def adapter(hint: Any) -> Adapter[Any]:
    """The adapter of a hint, built once."""
    try:
        return _cached(hint, repr(hint))
    except TypeError:
        return Adapter(hint)


class Signature:
    """A function's parameters and result as they cross the log: arguments by name, defaults not filled in."""

    def __init__(self, fn: Callable[..., Any], *, skip_self: bool = False) -> None:
        self.fn = fn
        self.name = fn.__qualname__
        parameters = list(inspect.signature(fn).parameters.values())[1 if skip_self else 0 :]
        self._signature = inspect.Signature(parameters)
        self._positional = not any(one.kind is one.KEYWORD_ONLY for one in parameters)
        hints = _hints(fn)
        self._adapters = {}
        self._members: dict[str, bytes] = {}
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise MissingHint(f"{self.name}: *args and **kwargs have no place on the log; name the parameters")
            if parameter.name not in hints:
                raise MissingHint(
                    f"{self.name}: parameter {parameter.name!r} needs a type hint, for it crosses the log"
                )
            self._adapters[parameter.name] = adapter(hints[parameter.name])
            self._members[parameter.name] = json.dumps(parameter.name).encode() + b":"
        if "return" not in hints:
            raise MissingHint(
                f"{self.name}: needs a return type hint, for its result crosses the log (-> None will do)"
            )
        self.result: Adapter[Any] = adapter(hints["return"])

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, loose: bool = False) -> Payload:
        """A call's arguments as a JSON object.

        Raises TypeError as the call itself would, DoesNotRoundTrip for a value.
        """
        if self._positional and not kwargs and len(args) == len(self._adapters):
            given: Mapping[str, Any] = dict(zip(self._adapters, args, strict=True))
        else:
            given = self._signature.bind(*args, **kwargs).arguments
        parts = []
        for name, value in given.items():
            payload, _ = self._adapters[name].round_trip(value, f"{self.name}({name})", loose=loose)
            parts.append(self._members[name] + payload.data)
        return Payload(data=b"{" + b",".join(parts) + b"}")

    def unbind(self, payload: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of a recorded call. Raises DoesNotRoundTrip."""
        try:
            recorded = json.loads(payload.data)
            values = {}
            for name, value in recorded.items():
                if name not in self._adapters:
                    raise DoesNotRoundTrip(f"{self.name}: has no parameter {name!r}, which the call gives")
                values[name] = self._decoded(name, value)
        except (ValueError, AttributeError, RecursionError) as error:
            raise DoesNotRoundTrip(f"{self.name}: its arguments are not a JSON object: {error}") from error
        try:
            bound = self._signature.bind(**values) if not self._positional_only() else self._bind_positional(values)
        except TypeError as error:
            raise DoesNotRoundTrip(f"{self.name}: its arguments do not fit: {error}") from error
        return bound.args, bound.kwargs

    def _decoded(self, name: str, value: Any) -> Any:
        try:
            return self._adapters[name].decode(Payload(data=json.dumps(value).encode()))
        except DoesNotRoundTrip as error:
            raise DoesNotRoundTrip(f"{self.name}: argument {name}: {error}") from error

    def _positional_only(self) -> bool:
        return any(one.kind is one.POSITIONAL_ONLY for one in self._signature.parameters.values())

    def _bind_positional(self, values: dict[str, Any]) -> inspect.BoundArguments:
        rest = dict(values)
        only = [one.name for one in self._signature.parameters.values() if one.kind is one.POSITIONAL_ONLY]
        first = [rest.pop(name) for name in only if name in rest]
        return self._signature.bind(*first, **rest)

    def equal(self, left: Payload, right: Payload) -> bool:
        """Whether two recorded calls are the same: equal bytes, else equal values by today's hints."""
        if left.data == right.data:
            return True
        try:
            return self._filled(left) == self._filled(right)
        except DoesNotRoundTrip:
            return False

    def _filled(self, payload: Payload) -> dict[str, Any]:
        args, kwargs = self.unbind(payload)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except Exception as error:
        # NameError for a name under TYPE_CHECKING, and whatever a strange annotation raises.
        raise MissingHint(
            f"{fn.__qualname__}: its type hints cannot be resolved at run time ({error}); import what they name outside"
            " `if TYPE_CHECKING`"
        ) from error


# -- exceptions ------------------------------------------------------------------------------------------------------


def encode_failure(error: BaseException, declared: Mapping[str, type[BaseException]]) -> Failure:
    """An exception as it crosses the log.

    Built-in and declared ones arrive as themselves, others as StepFailed(type, message). A declared error is the
    application's answer, not an accident: it is not retried unless it says `retryable = True` or names its own
    `next_retry_delay` (a timedelta).
    """
    cls = type(error)
    is_declared = declared.get(cls.__name__) is cls
    name = cls.__name__ if is_declared or _is_builtin(cls) else f"{cls.__module__}.{cls.__qualname__}"
    if isinstance(error, StepFailed):
        name = error.type
    delay = getattr(error, "next_retry_delay", None)
    has_delay = isinstance(delay, timedelta)
    never = isinstance(error, DoesNotRoundTrip | WorkflowFailed)
    return Failure(
        type=name,
        message=message_of(error),
        details=_details(error) if is_declared else _arguments(error, cls),
        traceback=printable("".join(traceback.format_exception(error)))[-8_000:],
        retryable=not never and bool(getattr(error, "retryable", has_delay or not is_declared)),
        retry_after_ms=int(delay.total_seconds() * 1000) if isinstance(delay, timedelta) else -1,
    )


def _is_builtin(cls: type) -> bool:
    return getattr(builtins, cls.__name__, None) is cls


def _details(error: BaseException) -> Payload:
    fields = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    try:
        return Payload(data=json.dumps({"args": list(error.args), "fields": fields}).encode())
    except (TypeError, ValueError, RecursionError):
        return Payload(data=json.dumps({"args": [str(arg) for arg in error.args], "fields": {}}).encode())


def _arguments(error: BaseException, cls: type) -> Payload:
    if not _is_builtin(cls):
        return NOTHING
    try:
        return Payload(data=json.dumps({"args": list(error.args), "fields": {}}).encode())
    except (TypeError, ValueError, RecursionError):
        return NOTHING


def decode_failure(failure: Failure, declared: Mapping[str, type[BaseException]]) -> BaseException:
    """The exception that a failure stands for, as itself where it is known; the same live and in replay."""
    cls = declared.get(failure.type) or getattr(builtins, failure.type, None)
    # A future refuses StopIteration; a coroutine that raised it could not be told from one that returned.
    if isinstance(cls, type) and issubclass(cls, Exception) and not issubclass(cls, StopIteration):
        try:
            error = _rebuild(cls, failure)
        except Exception:
            # Classes that want more than their recorded arguments (an ExceptionGroup, a `__new__` of its own).
            return StepFailed(f"{failure.type}: {failure.message}", failure.type)
        error.__cause__ = StepFailed(failure.message, failure.type)
        return error
    return StepFailed(f"{failure.type}: {failure.message}", failure.type)


def _rebuild(cls: type[BaseException], failure: Failure) -> BaseException:
    details = json.loads(failure.details.data) or {"args": [failure.message], "fields": {}}
    error = cls.__new__(cls, *details["args"])
    error.args = tuple(details["args"])
    for name, value in details["fields"].items():
        setattr(error, name, value)
    return error
