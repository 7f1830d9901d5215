"""The async client: starts workflows and gives typed handles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, Unpack, overload

from orchestrator.codec.payloads import adapter
from orchestrator.codec.registry import codec_of
from orchestrator.codec.signatures import CommandSigner
from orchestrator.config import Settings
from orchestrator.core.tasks import Reply
from orchestrator.sdk.app import Orchestrator
from orchestrator.sdk.attributes import Where
from orchestrator.sdk.events import Event
from orchestrator.sdk.messages import Signal
from orchestrator.sdk.workflow import Workflow
from orchestrator.store.blobs import Blobs, DirectoryBlobs

from .approvals import Approvals
from .batches import BatchOptions, Done, ForkOptions, ResetOptions, Selection, Steering, action_of, carried_out, chosen
from .caller import Caller
from .calls import Calls
from .code import Code, start_of
from .entity import EntityHandle
from .events import TopicDescription, list_events, send_event
from .handle import Handle
from .limits import Limits
from .requests import DEFAULT_OPTIONS, ClientOptions, Request, new_command_id
from .results import seconds
from .schedules import Schedules
from .steps import StepHandle
from .transport import Transport
from .updates import Target, Updates
from .views import RunSummary

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E")
T = TypeVar("T")


class Client:
    """Calls the workflows of one application. Make one with `Client.connect` or `app.connect()`."""

    def __init__(self, app: Orchestrator, calls: Calls, request: Request | None = None) -> None:
        self._app = app
        self._request = request or Request()
        self.calls = calls

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        app: Orchestrator,
        settings: Settings | None = None,
        *,
        transport: Transport | None = None,
        options: ClientOptions = DEFAULT_OPTIONS,
        blobs: Blobs | None = None,
    ) -> AsyncIterator[Client]:
        """Connect for the time of an `async with` block; settings come from the environment unless given.

        `blobs` is where the engines keep large values; without it the settings' directory, with a transport none.

        Raises KafkaUnavailable when no broker answers, ConfigurationError when the application's topics are missing,
        RegistryUnavailable when records are framed for a schema registry that does not answer.
        """
        codec, sign = None, None
        if transport is None:
            from .kafka import KafkaTransport

            settings = settings or Settings.from_env()
            transport = KafkaTransport(app.name, settings)
            codec = await asyncio.to_thread(codec_of, settings)
        if settings is not None:
            sign = CommandSigner.of(settings, app.name)
        caller = Caller(app.name, transport, options, codec, sign)
        await caller.open()
        try:
            if blobs is None and settings is not None:
                blobs = DirectoryBlobs(settings.blobs, app.name)
            yield cls(app, Calls(caller, blobs))
        finally:
            await caller.close()

    def using(self, *, command_id: str = "", reason: str = "", timeout: timedelta | float | None = None) -> Client:
        """The same client whose next command carries your idempotency key, a reason, or a time-out of its own."""
        return Client(self._app, self.calls, Request(command_id, reason, seconds(timeout) or 0.0))

    async def start(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start a run; returns when it is durable. Id and policies come from `workflow.options(...)`.

        Raises WorkflowAlreadyRunning, WorkflowAlreadyClosed, ReplyTimeout, KafkaUnavailable.
        """
        body, request = start_of(workflow, args, kwargs), self._request.identified()
        workflow_id = workflow.start_options.id or request.workflow_id(body.workflow_type)
        reply = await self.calls.start(workflow_id, body, request)
        return Handle(self.calls, Code(workflow), workflow_id, reply.run_id)

    async def execute(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a run and wait for its result. Raises as `start` and `Handle.result`."""
        handle = await self.start(workflow, *args, **kwargs)
        return await handle.result()

    def with_start(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WithStart:
        """Update-with-start: `await client.with_start(workflow, ...).update(...)` starts the run unless it is open, and
        updates it. The start stands even if the update is refused."""
        return WithStart(self, workflow, args, kwargs)

    def handle(self, workflow: Workflow[P, R], workflow_id: str, run_id: str = "") -> Handle[R]:
        """A handle of a run that was started before, by anyone. Asks nobody whether it exists."""
        return Handle(self.calls, Code(workflow), workflow_id, run_id)

    @overload
    async def batch(self, name: Steering, selection: Selection, **options: Unpack[BatchOptions]) -> list[Done]: ...
    @overload
    async def batch(
        self, name: Literal["reset"], selection: Selection, **options: Unpack[ResetOptions]
    ) -> list[Done]: ...
    @overload
    async def batch(
        self, name: Literal["fork"], selection: Selection, **options: Unpack[ForkOptions]
    ) -> list[Done]: ...
    @overload
    async def batch(
        self,
        name: Literal["signal"],
        selection: Selection,
        *,
        signal: Signal[T],
        value: T,
        **options: Unpack[BatchOptions],
    ) -> list[Done]: ...
    @overload
    async def batch(
        self,
        name: Literal["signal"],
        selection: Selection,
        *,
        signal: Callable[Concatenate[Any, P], Coroutine[Any, Any, None] | None],
        arguments: tuple[Any, ...] = ...,
        **options: Unpack[BatchOptions],
    ) -> list[Done]: ...
    async def batch(
        self, name: Any, selection: Selection, *, dry_run: bool = False, batch_id: str = "", **options: Any
    ) -> list[Done]:
        """Do something to many runs; a dry run says to which. A batch that was cut off goes on under the same id:
        what it asked of a workflow (of whichever run) is not asked twice.

        What `reset`, `fork` and `signal` take is what the methods of a handle take. Raises, before anything is sent,
        ConfigurationError, TypeError, DoesNotRoundTrip; KafkaUnavailable.
        """
        action = action_of(self._app, name, selection.workflow_type, options)
        runs = await chosen(self.calls, action, selection)
        if dry_run:
            return [Done(run.workflow_id, run.run_id, "chosen") for run in runs]
        return await carried_out(self.calls, runs, action, batch_id or new_command_id(), self._request)

    def entity(self, entity: type[E], key: str) -> EntityHandle[E]:
        """The entity of a key (`@app.entity`). Asks nobody whether it exists."""
        return EntityHandle(self.calls, entity.__qualname__.rpartition("<locals>.")[2], key, self._request)

    def step(self, key: str) -> StepHandle:
        """A step to speak for, by the idempotency key that it handed on. Raises ConfigurationError."""
        return StepHandle(self.calls, key, self._request)

    @property
    def schedules(self) -> Schedules:
        """The application's schedules."""
        return Schedules(self.calls, self._request)

    @overload
    async def send_event(self, event: Event[T], value: T, /, *, id: str = ...) -> Reply: ...
    @overload
    async def send_event(self, event: str, value: Any = ..., /, *, id: str = ...) -> Reply: ...
    async def send_event(self, event: Any, value: Any = None, /, *, id: str = "") -> Reply:
        """Send an event of the application, typed or by its topic's name; it is durable when this returns.

        An `id` that was sent before is answered as before, and reaches nobody twice. Raises DoesNotRoundTrip,
        ReplyTimeout, KafkaUnavailable.
        """
        name, kind = (event, adapter(Any)) if isinstance(event, str) else (event.name, event.adapter)
        payload, _ = kind.round_trip(value, f"event {name}", loose=isinstance(event, str))
        request = replace(self._request, command_id=id) if id else self._request
        return await send_event(self.calls, name, payload, request)

    async def events(self, event: Event[Any] | str, /) -> TopicDescription:
        """The recent events of a topic, and how many waits no event has come for yet."""
        return await list_events(self.calls, event if isinstance(event, str) else event.name)

    @property
    def approvals(self) -> Approvals:
        """What waits for an answer, over all runs."""
        return Approvals(self.calls, self._request)

    @property
    def limits(self) -> Limits:
        """Who holds slots of the application's limits, and who waits."""
        return Limits(self.calls)

    def runs(
        self, status: str = "", workflow_type: str = "", limit: int | None = None, where: Sequence[Where] = ()
    ) -> AsyncIterator[RunSummary]:
        """The application's runs that fit every condition (`attribute.where(...)`), asking every partition."""
        return self.calls.runs(status, workflow_type, limit, where)


class WithStart(Updates):
    """A start that goes before an update. Conflict policy `fail` means `use_existing` here."""

    def __init__(
        self, client: Client, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._workflow = workflow
        self._call = args, kwargs

    async def _target(self) -> tuple[Target, Request]:
        workflow, request = self._workflow, self._client._request.identified()  # noqa: SLF001
        args, kwargs = self._call
        body = start_of(workflow, args, kwargs)
        workflow_id = workflow.start_options.id or request.workflow_id(body.workflow_type)
        reply = await self._client.calls.start_to_update(workflow_id, body, request)
        return Target(self._client.calls, workflow_id, reply.run_id, Code(workflow).declared), request
