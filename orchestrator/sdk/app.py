"""The application: one object that names the log and gathers steps, workflows, signals and errors.

The class that users see adds `connect` (`orchestrator.Orchestrator`): defining workflows needs no client.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from ..config import application_name
from .attributes import Attribute
from .entity import EntityCode, EntityHandler, handler_code
from .events import Event
from .limits import Limit, LimitOptions, checked, declared
from .messages import Query, Signal
from .registry import Registry
from .step import Options, Step, StepCode
from .updates import Update
from .workflow import Workflow, WorkflowCode

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A", str, int, float, bool, datetime, list[str])
E = TypeVar("E", bound=type[BaseException])
S = TypeVar("S")
C = TypeVar("C", bound=type)


class _StepDecorator(Protocol):
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R]: ...


class _WorkflowDecorator(Protocol):
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


class _RunDecorator(Protocol):
    def __call__(self, fn: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


class Orchestrator:
    """An application. Its name `[a-z0-9-]+` begins the names of its topics, group and transactional ids."""

    def __init__(self, name: str) -> None:
        self.name = application_name(name)
        self.registry = Registry()

    @overload
    def step(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def step(self, fn: Callable[P, R], /) -> Step[P, R]: ...
    @overload
    def step(self, /, *, name: str = ..., **options: Unpack[Options]) -> _StepDecorator: ...
    def step(self, fn: Any = None, /, *, name: str = "", **options: Any) -> Any:
        """Make a function or method a step."""

        def decorate(fn: Callable[..., Any]) -> Step[..., Any]:
            code = StepCode(fn, name or fn.__qualname__.rpartition("<locals>.")[2], cast(Options, options))
            self.registry.add_step(code)
            return Step(code)

        return decorate if fn is None else decorate(fn)

    @overload
    def workflow(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
    @overload
    def workflow(
        self,
        /,
        *,
        name: str = ...,
        version: int = ...,
        on_bug: Literal["park", "fail"] = ...,
        limits: Iterable[Limit] = ...,
    ) -> _WorkflowDecorator: ...
    def workflow(
        self, fn: Any = None, /, *, name: str = "", version: int = 1, on_bug: str = "park", limits: Iterable[Limit] = ()
    ) -> Any:
        """Make an async function a workflow."""

        def decorate(fn: Callable[..., Any]) -> Workflow[..., Any]:
            workflow_type = name or fn.__qualname__.rpartition("<locals>.")[2]
            code = WorkflowCode(fn, workflow_type, version, on_bug, self.registry)
            code.limits = checked(f"workflow {code.workflow_type}", limits, whole_run=True)
            self.registry.add_workflow(code)
            return Workflow(code)

        return decorate if fn is None else decorate(fn)

    @overload
    def run(self, fn: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
    @overload
    def run(
        self,
        /,
        *,
        name: str = ...,
        version: int = ...,
        on_bug: Literal["park", "fail"] = ...,
        limits: Iterable[Limit] = ...,
    ) -> _RunDecorator: ...
    def run(
        self, fn: Any = None, /, *, name: str = "", version: int = 1, on_bug: str = "park", limits: Iterable[Limit] = ()
    ) -> Any:
        """Class form: the method that is the workflow. Unless `name` says otherwise its type is the class's name."""

        def decorate(fn: Callable[..., Any]) -> Workflow[..., Any]:
            owner = fn.__qualname__.rpartition("<locals>.")[2].rpartition(".")[0]
            code = WorkflowCode(fn, name or owner, version, on_bug, self.registry)
            code.limits = checked(f"workflow {code.workflow_type}", limits, whole_run=True)
            self.registry.add_workflow(code)
            return Workflow(code)

        return decorate if fn is None else decorate(fn)

    def entity(self, cls: C, /) -> C:
        """Make a class an entity: its fields (each with a default) are its state, its `@app.handler` methods change it,
        its `@query` methods read it.

        Raises ConfigurationError naming a field without a default.
        """
        self.registry.add_entity(EntityCode(cls))
        return cls

    def handler(self, fn: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /) -> EntityHandler[P, R]:
        """A method of an entity that may change it. Calls of a key run one at a time, in the order they came in."""
        code = handler_code(fn, self.registry)
        self.registry.add_workflow(code)
        return EntityHandler(code)

    def signal(self, name: str, type: type[T], /) -> Signal[T]:
        """A typed signal. What comes from outside and is not of this type is refused (`bad_request`)."""
        made = Signal(name, type)
        self.registry.signals.add(name, made.adapter)
        return made

    def event(self, name: str, type: type[T], /) -> Event[T]:
        """A typed event of the application: every run that waits for it gets it. See `signal`."""
        made = Event(name, type)
        self.registry.events.add(name, made.adapter)
        return made

    def query(self, name: str, type: type[T], /) -> Query[T]:
        """A typed query."""
        return Query(name, type)

    def attribute(self, name: str, type: type[A], /) -> Attribute[A]:
        """What runs can be found by: a name and a type, str, int, float, bool, datetime or list[str]."""
        return Attribute(name, type)

    def update(self, name: str, argument: type[T], result: type[R], /) -> Update[T, R]:
        """A typed update: one argument, and the answer's type."""
        return Update(name, argument, result)

    def limit(self, name: str, /, **options: Unpack[LimitOptions]) -> Limit:
        """Declare a limit: `limits=[app.limit("openai", concurrency=4, key="tenant")]` of a step or workflow.

        Raises ConfigurationError.
        """
        return declared(self.registry.limits, name, options)

    def error(self, cls: E, /) -> E:
        """An exception class that crosses the log as itself."""
        self.registry.add_error(cls)
        return cls

    def bind(self, obj: object) -> None:
        """Give this process the object whose methods are steps."""
        self.registry.bind(obj)
