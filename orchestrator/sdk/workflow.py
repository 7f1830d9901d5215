"""Workflows: ordinary sequential Python, pinned to a version. Called inside a workflow, one is a child."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from ..codec.payloads import Signature
from ..core.values import AttributeValue, CodeIdentity, LimitNeed, Payload
from ..errors import ConfigurationError
from .calls import ChildCalled
from .identity import identity_of
from .limits import Limit, check_priority, needs_of
from .loop import running_loop

if TYPE_CHECKING:
    from .entity import EntityCode
    from .messages import Signal
    from .registry import Registry
    from .updates import UpdateMethod

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
P2 = ParamSpec("P2")
T = TypeVar("T")


class GivenSignal(NamedTuple):
    """A signal that goes with a start: `app.signal(...)` or a handler, and what it is given."""

    signal: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class StartOptions(NamedTuple):
    """How a run is started; the words of the contract of behaviour."""

    id: str = ""
    conflict: str = "fail"
    reuse: str = "allow"
    start_delay: timedelta | None = None
    execution_timeout: timedelta | None = None
    run_timeout: timedelta | None = None
    close_policy: str = "terminate"
    signal: GivenSignal | None = None
    priority: int = 0
    memo: Any = None
    attributes: Sequence[AttributeValue] = ()
    summary: str = ""


class GivenOptions(TypedDict, total=False):
    """Keyword options of `workflow.options(...)`."""

    id: str
    conflict: Literal["fail", "use_existing", "terminate_existing"]
    reuse: Literal["allow", "allow_if_failed", "reject"]
    start_delay: timedelta
    execution_timeout: timedelta
    run_timeout: timedelta
    close_policy: Literal["terminate", "abandon", "request_cancel"]
    priority: int
    memo: Any
    attributes: Sequence[AttributeValue]
    summary: str


class Handlers(NamedTuple):
    """The handlers of a class-form workflow, by name."""

    signals: dict[str, Callable[..., Any]]
    queries: dict[str, Callable[..., Any]]
    updates: dict[str, UpdateMethod[..., Any]]


class WorkflowCode:
    """One version of a workflow's definition."""

    def __init__(
        self, fn: Callable[..., Any], workflow_type: str, version: int, on_bug: str, registry: Registry
    ) -> None:
        if not inspect.iscoroutinefunction(fn):
            raise ConfigurationError(f"workflow {workflow_type}: must be an `async def` (it awaits its steps)")
        if version < 1:
            raise ConfigurationError(f"workflow {workflow_type}: versions are numbered from 1, not {version}")
        if on_bug not in ("park", "fail"):
            raise ConfigurationError(f"workflow {workflow_type}: on_bug is park or fail, not {on_bug!r}")
        self.fn = fn
        self.workflow_type = workflow_type
        self.version = version
        self.on_bug = on_bug
        self.registry = registry
        self.limits: tuple[Limit, ...] = ()
        self.owner: type | None = None
        self.entity: EntityCode | None = None
        self.is_handler = False
        self.handlers = Handlers({}, {}, {})

    @cached_property
    def is_method(self) -> bool:
        """Whether the class form is used: every run has an object of its own."""
        return next(iter(inspect.signature(self.fn).parameters), "") == "self"

    @cached_property
    def signature(self) -> Signature:
        """Parameters and result; raises MissingHint."""
        return Signature(self.fn, skip_self=self.is_method)

    def needs(self, arguments: Payload, priority: int) -> tuple[LimitNeed, ...]:
        """What a run needs before its code begins. Raises what a limit's key raises."""
        if not self.limits:
            return ()
        args, kwargs = self.signature.unbind(arguments)
        return needs_of(self.limits, self.fn, args, kwargs, priority)

    @cached_property
    def identity(self) -> CodeIdentity:
        """For messages and audits."""
        return identity_of(self.fn, self.registry.image)


class Workflow(Generic[P, R_co]):
    """A workflow as callers and other workflows see it."""

    def __init__(self, code: WorkflowCode, options: StartOptions | None = None) -> None:
        self.code = code
        self.start_options = options or StartOptions()
        self.__name__ = code.workflow_type
        self.__doc__ = code.fn.__doc__
        self.__wrapped__ = code.fn

    def __set_name__(self, owner: type, name: str) -> None:
        """The class form: the class of the `@app.run` method, and its handlers, belong to the run."""
        self.code.owner = owner
        for member, value in vars(owner).items():
            if getattr(value, "__orchestrator__", "") == "signal":
                self.code.handlers.signals[member] = value
            elif getattr(value, "__orchestrator__", "") == "query":
                self.code.handlers.queries[member] = value
            elif getattr(value, "__orchestrator__", "") == "update":
                self.code.handlers.updates[member] = value

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[None, None, R_co]:
        loop = running_loop()
        if loop is None:
            plain: Coroutine[None, None, R_co] = self.code.fn(*args, **kwargs)
            return plain
        options = self.start_options
        if options.signal is not None:
            raise ConfigurationError(f"{self.code.workflow_type}: a child is started without a signal; send it one")
        if options.conflict == "use_existing":
            raise ConfigurationError(f"{self.code.workflow_type}: a run that is open already is nobody's new child")
        arguments = self.code.signature.bind(args, kwargs)
        return ChildCalled(loop, self.code, arguments, options)

    def options(self, **given: Unpack[GivenOptions]) -> Workflow[P, R_co]:
        """The same workflow, started differently."""
        check_priority(self.code.workflow_type, given.get("priority", 0))
        return type(self)(self.code, self.start_options._replace(**given))

    @overload
    def with_signal(self, signal: Signal[T], value: T, /) -> Workflow[P, R_co]: ...
    @overload
    def with_signal(
        self,
        handler: Callable[Concatenate[Any, P2], Coroutine[Any, Any, None] | None],
        /,
        *args: P2.args,
        **kwargs: P2.kwargs,
    ) -> Workflow[P, R_co]: ...
    def with_signal(self, signal: Any, /, *args: Any, **kwargs: Any) -> Workflow[P, R_co]:
        """Started with a signal, in one commit; a run of the same id that is open gets the signal instead."""
        return type(self)(self.code, self.start_options._replace(signal=GivenSignal(signal, args, kwargs)))

    def older(self, *, version: int) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Workflow[P, R]]:
        """Keep an older version: runs that began on it go on with it. Raises ConfigurationError if it is not older."""
        newest = self.code
        if version >= newest.version:
            raise ConfigurationError(
                f"workflow {newest.workflow_type}: version {version} is not older than version {newest.version}, whose"
                f" code it would replace: number the newest, as in @app.workflow(version={version + 1})"
            )

        def decorate(fn: Callable[P, Coroutine[Any, Any, R]]) -> Workflow[P, R]:
            code = WorkflowCode(fn, newest.workflow_type, version, newest.on_bug, newest.registry)
            code.limits = newest.limits
            newest.registry.add_workflow(code)
            return Workflow(code)

        return decorate
