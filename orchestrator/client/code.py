"""What the client knows of the code: how a call's arguments, messages, results and errors cross the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Generic, ParamSpec, TypeVar

from orchestrator.codec.payloads import Signature
from orchestrator.core.commands import StartWorkflow
from orchestrator.core.values import NOTHING, Payload
from orchestrator.errors import ConfigurationError
from orchestrator.sdk.calls import memo_of, milliseconds
from orchestrator.sdk.entity import QUEUE
from orchestrator.sdk.messages import Query, Signal
from orchestrator.sdk.updates import Update, UpdateMethod
from orchestrator.sdk.workflow import Workflow

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Code(Generic[R_co]):
    """The typed end of a workflow: decodes its result, names the errors that arrive as themselves."""

    def __init__(self, workflow: Workflow[..., R_co]) -> None:
        self._workflow = workflow

    @property
    def declared(self) -> Mapping[str, type[BaseException]]:
        """The application's declared errors by name."""
        return self._workflow.code.registry.errors

    def bind(self, arguments: tuple[Any, ...]) -> Payload:
        """The workflow's arguments. Raises TypeError, DoesNotRoundTrip."""
        return self._workflow.code.signature.bind(arguments, {})

    def decode_result(self, payload: Payload) -> R_co:
        """A result by the workflow's return hint. Raises DoesNotRoundTrip."""
        result: R_co = self._workflow.code.signature.result.decode(payload)
        return result


def start_of(workflow: Workflow[P, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> StartWorkflow:
    """The command that starts a call as its options say. Raises TypeError, DoesNotRoundTrip."""
    code, options = workflow.code, workflow.start_options
    if code.is_handler and options.conflict != QUEUE:
        name = code.workflow_type
        raise ConfigurationError(f"{name} is a handler of an entity: start {name}.on(key)")
    signal, payload = ("", NOTHING) if options.signal is None else signal_of(*options.signal)
    newest = code.registry.workflow(code.workflow_type)
    return StartWorkflow(
        workflow_type=code.workflow_type,
        arguments=code.signature.bind(args, kwargs),
        version=0 if newest is code else code.version,
        conflict=options.conflict,
        reuse=options.reuse,
        start_delay_ms=milliseconds(options.start_delay),
        execution_timeout_ms=milliseconds(options.execution_timeout),
        run_timeout_ms=milliseconds(options.run_timeout),
        signal=signal,
        signal_payload=payload,
        memo=memo_of(options.memo),
        attributes=tuple(options.attributes),
        summary=options.summary,
        priority=options.priority,
    )


@lru_cache(maxsize=1024)
def _handler(function: Callable[..., Any]) -> Signature:
    return Signature(function, skip_self=True)


def signal_of(
    signal: Signal[Any] | Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, Payload]:
    """Name and payload of a signal: a value, or a handler's arguments. Raises TypeError, DoesNotRoundTrip."""
    if isinstance(signal, Signal):
        if len(args) != 1 or kwargs:
            raise TypeError(f"signal {signal.name} takes one value")
        payload, _ = signal.adapter.round_trip(args[0], f"signal {signal.name}")
        return signal.name, payload
    return signal.__name__, _handler(signal).bind(args, kwargs)


def query_of(
    query: Query[Any] | Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, Payload]:
    """Name and arguments of a question. Raises TypeError, DoesNotRoundTrip."""
    if isinstance(query, Query):
        if args or kwargs:
            raise TypeError(f"query {query.name} takes no arguments")
        return query.name, NOTHING
    return query.__name__, _handler(query).bind(args, kwargs)


def answer_of(query: Query[Any] | Callable[..., Any], payload: Payload) -> Any:
    """An answer by the question's type. Raises DoesNotRoundTrip."""
    if isinstance(query, Query):
        return query.adapter.decode(payload)
    return _handler(query).result.decode(payload)


def update_of(
    update: Update[Any, Any] | UpdateMethod[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, Payload]:
    """Name and payload of an update. Raises TypeError, DoesNotRoundTrip."""
    if isinstance(update, UpdateMethod):
        return update.name, update.bind(args, kwargs)
    if len(args) != 1 or kwargs:
        raise TypeError(f"update {update.name} takes one value")
    payload, _ = update.argument.round_trip(args[0], f"update {update.name}")
    return update.name, payload


def update_result(update: Update[Any, R_co] | UpdateMethod[..., R_co], payload: Payload) -> R_co:
    """An update's answer by its type. Raises DoesNotRoundTrip."""
    kind = update.signature.result if isinstance(update, UpdateMethod) else update.result
    result: R_co = kind.decode(payload)
    return result
