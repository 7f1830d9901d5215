"""Entities: objects with a key, whose state is durable and whose calls run one at a time.

Each call is a run of its own, with steps, timers and a result. It gets the state that the call before it left, and what
it leaves is recorded with its result; a call that fails changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from ..codec.payloads import Adapter, Signature, adapter
from ..core.values import NOTHING, Payload
from ..errors import ConfigurationError
from .loop import running_loop
from .workflow import GivenOptions, StartOptions, Workflow, WorkflowCode

if TYPE_CHECKING:
    from .turn import LiveRun

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

QUEUE = "queue"
"""The conflict policy of an entity's calls: they line up."""


def entity_id(name: str, key: str) -> str:
    """The workflow id that the calls of a key share."""
    return f"{name}/{key}"


class EntityHandler(Workflow[P, R_co]):
    """A method that may change its entity. `Account.deposit.on("alice")` is the workflow that calls it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[None, None, R_co]:
        if self.start_options.conflict != QUEUE:
            name = self.code.workflow_type
            raise ConfigurationError(f"{name} is called on a key: await {name}.on(key)(...)")
        loop = running_loop()
        run: LiveRun | None = loop.run if loop is not None else None  # type: ignore[assignment]
        if run is None:
            raise ConfigurationError(
                f"{self.code.workflow_type} of {self.start_options.id} is called in workflow code or by a client; a"
                " test without either calls the method of an object"
            )
        if run.workflow_id == self.start_options.id:
            raise ConfigurationError(
                f"{self.code.workflow_type} calls its own entity {run.workflow_id}, and would wait for itself: call the"
                " method of self"
            )
        return super().__call__(*args, **kwargs)

    def on(self, key: str) -> Workflow[P, R_co]:
        """The call of this method on the entity of that key."""
        if not key:
            raise ConfigurationError(f"{self.code.workflow_type}: an entity's key is a non-empty text")
        name = self.code.workflow_type.rpartition(".")[0]
        return EntityHandler(self.code, StartOptions(id=entity_id(name, key), conflict=QUEUE))

    def options(self, **given: Unpack[GivenOptions]) -> Workflow[P, R_co]:
        """The same call with time-outs or a close policy; key and queue are fixed by `on`."""
        fixed = sorted({"id", "conflict", "reuse", "start_delay"} & given.keys())
        if fixed:
            raise ConfigurationError(f"{self.code.workflow_type}: a call of an entity has no option {', '.join(fixed)}")
        return super().options(**given)

    @overload
    def __get__(self, obj: None, owner: Any = ..., /) -> EntityHandler[P, R_co]: ...
    @overload
    def __get__(self, obj: object, owner: Any = ..., /) -> Callable[P, Coroutine[None, None, R_co]]: ...
    def __get__(self, obj: Any, owner: Any = None, /) -> Any:
        """On an object: the plain method, part of the call that runs."""
        return self if obj is None else self.code.fn.__get__(obj)


class EntityCode:
    """An entity's definition. Raises ConfigurationError when it cannot begin without a state."""

    def __init__(self, cls: type) -> None:
        self.name = cls.__qualname__.rpartition("<locals>.")[2]
        if "__dataclass_fields__" not in vars(cls):
            dataclasses.dataclass(cls)
        wanting = [
            field.name
            for field in dataclasses.fields(cls)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and field.init
        ]
        if wanting:
            raise ConfigurationError(
                f"entity {self.name}: {', '.join(wanting)} needs a default, for an entity exists before its first call"
            )
        self.cls = cls
        self.queries = {
            member: value for member, value in vars(cls).items() if getattr(value, "__orchestrator__", "") == "query"
        }
        for value in vars(cls).values():
            if isinstance(value, EntityHandler):
                value.code.owner, value.code.entity = cls, self
        self._adapter: Adapter[Any] | None = None

    @property
    def adapter(self) -> Adapter[Any]:
        """Of the state; raises MissingHint. Built at first use: hints may name what is defined below."""
        if self._adapter is None:
            self._adapter = adapter(self.cls)
        return self._adapter

    def load(self, state: Payload) -> Any:
        """The object as the last call left it. Raises DoesNotRoundTrip when its class no longer fits."""
        return self.cls() if state == NOTHING else self.adapter.decode(state)

    def normal(self, state: Payload) -> bytes:
        """A state as today's class writes it: fields that came since have their defaults."""
        return self.adapter.encode(self.load(state)).data

    def changed(self, obj: Any, before: Payload) -> Payload | None:
        """The state of the object if a call changed it. Raises DoesNotRoundTrip."""
        after, _ = self.adapter.round_trip(obj, f"the state of entity {self.name}")
        return None if after.data == self.normal(before) else after

    def read(self, state: Payload, name: str, arguments: Payload) -> Payload:
        """Answer a read. Raises what it raises; LookupError without one of that name, PermissionError if it writes."""
        handler = self.queries.get(name)
        if handler is None:
            raise LookupError(
                f"entity {self.name} has no query {name!r}; it answers {', '.join(self.queries) or 'none'}"
            )
        obj, signature = self.load(state), Signature(handler, skip_self=True)
        args, kwargs = signature.unbind(arguments if arguments != NOTHING else Payload(data=b"{}"))
        answer = signature.result.encode(handler(obj, *args, **kwargs))
        if self.adapter.encode(obj).data != self.normal(state):
            raise PermissionError(f"query {name!r} would change entity {self.name}: queries only read")
        return answer


def handler_code(fn: Callable[..., Any], registry: Any) -> WorkflowCode:
    """A handler's definition: a workflow whose type is class and method."""
    owner, _, name = fn.__qualname__.rpartition("<locals>.")[2].rpartition(".")
    if not owner:
        raise ConfigurationError(f"{fn.__qualname__}: a handler is a method of a class with @app.entity")
    code = WorkflowCode(fn, f"{owner}.{name}", 1, "park", registry)
    code.is_handler = True
    return code
