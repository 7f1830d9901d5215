"""The client for code without an event loop: the same calls, blocking."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import timedelta
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, Unpack, overload

from orchestrator.config import Settings
from orchestrator.core.tasks import Reply
from orchestrator.sdk.app import Orchestrator
from orchestrator.sdk.attributes import Where
from orchestrator.sdk.entity import EntityHandler
from orchestrator.sdk.events import Event
from orchestrator.sdk.messages import Query, Signal
from orchestrator.sdk.updates import Update, UpdateMethod
from orchestrator.sdk.workflow import Workflow
from orchestrator.store.blobs import Blobs

from .batches import BatchOptions, Done, ForkOptions, ResetOptions, Selection, Steering
from .blocking_parts import BlockingApprovals, BlockingLimits, BlockingSchedules
from .client import Client
from .entity import EntityDescription, EntityHandle
from .events import TopicDescription
from .handle import Handle
from .loop_thread import LoopThread
from .requests import DEFAULT_OPTIONS, ClientOptions
from .steps import StepHandle
from .transport import Transport
from .updates import UpdateHandle, Updates
from .views import HistoryEvent, Rejection, RunDescription, RunSummary

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
E = TypeVar("E")


class BlockingUpdates:
    """`Updates` without `await`: a handle, or `BlockingClient.with_start`."""

    def __init__(self, thread: LoopThread, updates: Updates) -> None:
        self._thread = thread
        self._updates = updates

    @overload
    def update(self, update: Update[T, R], value: T, /) -> R: ...
    @overload
    def update(self, method: UpdateMethod[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def update(self, update: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See `Updates.update`."""
        return self._thread.run(self._updates.update(update, *args, **kwargs))

    @overload
    def start_update(self, update: Update[T, R], value: T, /) -> BlockingUpdate[R]: ...
    @overload
    def start_update(self, method: UpdateMethod[P, R], /, *args: P.args, **kwargs: P.kwargs) -> BlockingUpdate[R]: ...
    def start_update(self, update: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See `Updates.start_update`."""
        return BlockingUpdate(self._thread, self._thread.run(self._updates.start_update(update, *args, **kwargs)))


class BlockingHandle(BlockingUpdates, Generic[R_co]):
    """`Handle` without `await`."""

    def __init__(self, thread: LoopThread, handle: Handle[R_co]) -> None:
        super().__init__(thread, handle)
        self._handle = handle

    @property
    def workflow_id(self) -> str:
        """The workflow's id."""
        return self._handle.workflow_id

    @property
    def run_id(self) -> str:
        """The run's id, "" if the handle follows the newest."""
        return self._handle.run_id

    def using(
        self, *, command_id: str = "", reason: str = "", timeout: timedelta | float | None = None
    ) -> BlockingHandle[R_co]:
        """See `Handle.using`."""
        changed = self._handle.using(command_id=command_id, reason=reason, timeout=timeout)
        return BlockingHandle(self._thread, changed)

    def result(self, timeout: timedelta | float | None = None) -> R_co:
        """See `Handle.result`."""
        return self._thread.run(self._handle.result(timeout))

    @overload
    def signal(self, signal: Signal[T], value: T, /) -> None: ...
    @overload
    def signal(
        self,
        handler: Callable[Concatenate[Any, P], Coroutine[Any, Any, None] | None],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None: ...
    def signal(self, signal: Any, /, *args: Any, **kwargs: Any) -> None:
        """See `Handle.signal`."""
        self._thread.run(self._handle.signal(signal, *args, **kwargs))

    @overload
    def query(self, query: Query[T], /) -> T: ...
    @overload
    def query(self, handler: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def query(self, query: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See `Handle.query`."""
        return self._thread.run(self._handle.query(query, *args, **kwargs))

    def update_handle(self, update: Update[Any, R] | UpdateMethod[..., R], update_id: str) -> BlockingUpdate[R]:
        """See `Handle.update_handle`."""
        return BlockingUpdate(self._thread, self._handle.update_handle(update, update_id))

    def cancel(self) -> Reply:
        """See `Handle.cancel`."""
        return self._thread.run(self._handle.cancel())

    def terminate(self) -> Reply:
        """See `Handle.terminate`."""
        return self._thread.run(self._handle.terminate())

    def retry(self) -> Reply:
        """See `Handle.retry`."""
        return self._thread.run(self._handle.retry())

    def fork(self, step: str, *, arguments: tuple[Any, ...] | None = None) -> BlockingHandle[R_co]:
        """See `Handle.fork`."""
        return BlockingHandle(self._thread, self._thread.run(self._handle.fork(step, arguments=arguments)))

    def reset(self, *, event: int = 0, keep_signals: bool = True) -> BlockingHandle[R_co]:
        """See `Handle.reset`."""
        work = self._handle.reset(event=event, keep_signals=keep_signals)
        return BlockingHandle(self._thread, self._thread.run(work))

    def pause(self) -> Reply:
        """See `Handle.pause`."""
        return self._thread.run(self._handle.pause())

    def resume(self) -> Reply:
        """See `Handle.resume`."""
        return self._thread.run(self._handle.resume())

    def describe(self) -> RunDescription:
        """See `Handle.describe`."""
        return self._thread.run(self._handle.describe())

    def history(self, from_seq: int = 1) -> list[HistoryEvent]:
        """See `Handle.history`; all at once."""
        return self._thread.every(self._handle.history(from_seq))

    def rejections(self) -> list[Rejection]:
        """See `Handle.rejections`; all at once."""
        return self._thread.every(self._handle.rejections())


class BlockingUpdate(Generic[R_co]):
    """`UpdateHandle` without `await`."""

    def __init__(self, thread: LoopThread, handle: UpdateHandle[R_co]) -> None:
        self._thread = thread
        self._handle = handle

    @property
    def id(self) -> str:
        """The update's id."""
        return self._handle.id

    @property
    def workflow_id(self) -> str:
        """The workflow's id."""
        return self._handle.workflow_id

    @property
    def run_id(self) -> str:
        """The run that accepted it, "" if nobody asked."""
        return self._handle.run_id

    def result(self, timeout: timedelta | float | None = None) -> R_co:
        """See `UpdateHandle.result`."""
        return self._thread.run(self._handle.result(timeout))


class BlockingStep:
    """`StepHandle` without `await`."""

    def __init__(self, thread: LoopThread, handle: StepHandle) -> None:
        self.workflow_id, self.run_id, self.step = handle.workflow_id, handle.run_id, handle.step
        self._thread = thread
        self._handle = handle

    def complete(self, result: Any = None) -> Reply:
        """See `StepHandle.complete`."""
        return self._thread.run(self._handle.complete(result))

    def fail(self, message: str, error_type: str = "StepFailed") -> Reply:
        """See `StepHandle.fail`."""
        return self._thread.run(self._handle.fail(message, error_type))

    def heartbeat(self, details: Any = None) -> Reply:
        """See `StepHandle.heartbeat`."""
        return self._thread.run(self._handle.heartbeat(details))


class BlockingEntity(Generic[E]):
    """`EntityHandle` without `await`."""

    def __init__(self, thread: LoopThread, handle: EntityHandle[E]) -> None:
        self.workflow_id, self.key = handle.workflow_id, handle.key
        self._thread = thread
        self._handle = handle

    def send(self, handler: EntityHandler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> BlockingHandle[R]:
        """See `EntityHandle.send`."""
        return BlockingHandle(self._thread, self._thread.run(self._handle.send(handler, *args, **kwargs)))

    def call(self, handler: EntityHandler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """See `EntityHandle.call`."""
        return self._thread.run(self._handle.call(handler, *args, **kwargs))

    def query(self, handler: Callable[Concatenate[E, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """See `EntityHandle.query`."""
        return self._thread.run(self._handle.query(handler, *args, **kwargs))

    def describe(self) -> EntityDescription:
        """See `EntityHandle.describe`."""
        return self._thread.run(self._handle.describe())


class BlockingClient:
    """`Client` without `await`. Refuses to work on a thread whose event loop runs (BlockingInLoop)."""

    def __init__(self, thread: LoopThread, client: Client) -> None:
        self._thread = thread
        self._client = client

    @classmethod
    @contextmanager
    def connect(
        cls,
        app: Orchestrator,
        settings: Settings | None = None,
        *,
        transport: Transport | None = None,
        options: ClientOptions = DEFAULT_OPTIONS,
        blobs: Blobs | None = None,
    ) -> Iterator[BlockingClient]:
        """See `Client.connect`; for the time of a `with` block."""
        thread = LoopThread()
        try:
            opened = Client.connect(app, settings, transport=transport, options=options, blobs=blobs)
            client = thread.run(_enter(opened))
            try:
                yield cls(thread, client)
            finally:
                thread.run(_leave(opened))
        finally:
            thread.close()

    def using(
        self, *, command_id: str = "", reason: str = "", timeout: timedelta | float | None = None
    ) -> BlockingClient:
        """See `Client.using`."""
        changed = self._client.using(command_id=command_id, reason=reason, timeout=timeout)
        return BlockingClient(self._thread, changed)

    def start(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> BlockingHandle[R]:
        """See `Client.start`."""
        return BlockingHandle(self._thread, self._thread.run(self._client.start(workflow, *args, **kwargs)))

    def execute(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """See `Client.execute`."""
        return self._thread.run(self._client.execute(workflow, *args, **kwargs))

    def handle(self, workflow: Workflow[P, R], workflow_id: str, run_id: str = "") -> BlockingHandle[R]:
        """See `Client.handle`."""
        return BlockingHandle(self._thread, self._client.handle(workflow, workflow_id, run_id))

    def with_start(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> BlockingUpdates:
        """See `Client.with_start`."""
        return BlockingUpdates(self._thread, self._client.with_start(workflow, *args, **kwargs))

    def entity(self, entity: type[E], key: str) -> BlockingEntity[E]:
        """See `Client.entity`."""
        return BlockingEntity(self._thread, self._client.entity(entity, key))

    @overload
    def send_event(self, event: Event[T], value: T, /, *, id: str = ...) -> Reply: ...
    @overload
    def send_event(self, event: str, value: Any = ..., /, *, id: str = ...) -> Reply: ...
    def send_event(self, event: Any, value: Any = None, /, *, id: str = "") -> Reply:
        """See `Client.send_event`."""
        return self._thread.run(self._client.send_event(event, value, id=id))

    def events(self, event: Event[Any] | str, /) -> TopicDescription:
        """See `Client.events`."""
        return self._thread.run(self._client.events(event))

    def step(self, key: str) -> BlockingStep:
        """See `Client.step`."""
        return BlockingStep(self._thread, self._client.step(key))

    @overload
    def batch(self, name: Steering, selection: Selection, **options: Unpack[BatchOptions]) -> list[Done]: ...
    @overload
    def batch(self, name: Literal["reset"], selection: Selection, **options: Unpack[ResetOptions]) -> list[Done]: ...
    @overload
    def batch(self, name: Literal["fork"], selection: Selection, **options: Unpack[ForkOptions]) -> list[Done]: ...
    @overload
    def batch(
        self,
        name: Literal["signal"],
        selection: Selection,
        *,
        signal: Signal[T],
        value: T,
        **options: Unpack[BatchOptions],
    ) -> list[Done]: ...
    @overload
    def batch(
        self,
        name: Literal["signal"],
        selection: Selection,
        *,
        signal: Callable[Concatenate[Any, P], Coroutine[Any, Any, None] | None],
        arguments: tuple[Any, ...] = ...,
        **options: Unpack[BatchOptions],
    ) -> list[Done]: ...
    def batch(self, name: Any, selection: Selection, **options: Any) -> list[Done]:
        """See `Client.batch`."""
        return self._thread.run(self._client.batch(name, selection, **options))

    @property
    def schedules(self) -> BlockingSchedules:
        """See `Client.schedules`."""
        return BlockingSchedules(self._thread, self._client.schedules)

    @property
    def approvals(self) -> BlockingApprovals:
        """See `Client.approvals`."""
        return BlockingApprovals(self._thread, self._client.approvals)

    @property
    def limits(self) -> BlockingLimits:
        """See `Client.limits`."""
        return BlockingLimits(self._thread, self._client.limits)

    def runs(
        self, status: str = "", workflow_type: str = "", limit: int | None = None, where: Sequence[Where] = ()
    ) -> list[RunSummary]:
        """See `Client.runs`; all at once."""
        return self._thread.every(self._client.runs(status, workflow_type, limit, where))


async def _enter(opened: AbstractAsyncContextManager[Client]) -> Client:
    return await opened.__aenter__()


async def _leave(opened: AbstractAsyncContextManager[Client]) -> None:
    await opened.__aexit__(None, None, None)
