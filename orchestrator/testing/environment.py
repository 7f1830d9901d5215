"""An application with its engine in this process, on the log in memory: no broker, and time skips to whatever is due
next.

Every turn is followed by an eviction, so that each await is also a replay: code that does not repeat itself is found
here.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from ..client.client import Client
from ..client.requests import ClientOptions
from ..codec.records import Codec
from ..engine.options import PAYLOAD_BYTES, EngineOptions
from ..engine.run import Engine
from ..sdk.app import Orchestrator
from ..sdk.execution import ExecutorOptions, Report
from ..sdk.step import Step
from ..store.blobs import MemoryBlobs
from ..store.memory_store import MemoryStore
from ..worker.inline import InlineExecutor
from .clock import SkippingClock
from .memory_cluster import MemoryCluster
from .memory_log import MemoryGroup, MemoryLog, create_topics
from .replayer import History, in_second_process, reference_of
from .transport import MemoryTransport

P = ParamSpec("P")
R = TypeVar("R")

PARTITIONS = 2
LOOK_S = 0.002
NEVER_MS = 10**15
"""Closed runs stay: else the first thing to skip to after a run's end would be its retention's."""


class _Skipper:
    """Puts the clock forward whenever the engine has nothing to do but wait."""

    def __init__(self, engine: Engine, clock: SkippingClock) -> None:
        self._engine = engine
        self._clock = clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="time", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Time passes as it does outside again."""
        self._stopped.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stopped.wait(LOOK_S):
            partitions = list(self._engine.partitions.values())
            # Only while the test waits for a result: between a start and a signal no month may pass.
            if not any(partition.awaited for partition in partitions):
                continue
            waits = [partition.idle_for() for partition in partitions]
            if waits and all(wait is not None for wait in waits) and not self._engine.executor.running():
                nearest = min(wait for wait in waits if wait is not None)
                if 0 < nearest < float("inf"):
                    self._skip(nearest)

    def _skip(self, seconds: float) -> None:
        self._clock.skip(seconds)
        for partition in list(self._engine.partitions.values()):
            with partition.inbox.changed:
                partition.inbox.changed.notify_all()


class Environment(Client):
    """A client of the application under test, and what a test may do to it."""

    def __init__(self, client: Client, app: Orchestrator, executor: InlineExecutor, clock: SkippingClock) -> None:
        super().__init__(app, client.calls)
        self._executor = executor
        self._clock = clock

    @contextmanager
    def replace(self, step: Step[P, R], fake: Callable[P, R | Coroutine[Any, Any, R]], /) -> Iterator[None]:
        """Run `fake` in the place of a step for the time of the block."""
        self._executor.replace(step.code.name, fake)
        try:
            yield
        finally:
            self._executor.restore(step.code.name)

    def skip(self, duration: timedelta) -> None:
        """Put the clock forward by hand."""
        self._clock.skip(duration.total_seconds())


async def _histories(client: Client) -> list[History]:
    runs = [run async for run in client.runs()]
    return [
        (run.workflow_id, run.run_id, [event.raw async for event in client.calls.history(run.workflow_id, run.run_id)])
        for run in runs
    ]


@asynccontextmanager
async def environment(
    app: Orchestrator, *, options: EngineOptions | None = None, second_process: bool = True
) -> AsyncIterator[Environment]:
    """Run `app` in this process for the time of an `async with` block. Raises MissingHint as an engine would.

    At its end every run is replayed in a second process with another hash seed, if `app` is a name of a module that
    can be imported there. Raises Divergence naming the place.
    """
    app.registry.check()
    cluster, clock = MemoryCluster(), SkippingClock()
    cluster.wall_ms = clock.wall_ms
    create_topics(cluster, app.name, PARTITIONS)
    stores: dict[int, MemoryStore] = {}
    options = options or EngineOptions(evict_after_turn=True, retention_ms=NEVER_MS, inline_bytes=PAYLOAD_BYTES)
    options = replace(options, blobs=options.blobs or MemoryBlobs())

    def make_executor(report: Report, freed: Callable[[], None]) -> InlineExecutor:
        return InlineExecutor(app, ExecutorOptions(freed=freed), report)

    def open_store(number: int, codec: Codec) -> MemoryStore:
        return stores.setdefault(number, MemoryStore(codec))

    engine = Engine(
        MemoryLog(cluster, app.name, MemoryGroup(PARTITIONS)),
        app.registry,
        make_executor,
        open_store,
        options,
        clock,
    )
    assert isinstance(engine.executor, InlineExecutor)
    engine.start()
    skipper = _Skipper(engine, clock)
    try:
        transport = MemoryTransport(cluster, app.name, PARTITIONS)
        callers = ClientOptions(parked="raise")
        async with Client.connect(app, transport=transport, options=callers, blobs=options.blobs) as client:
            yield Environment(client, app, engine.executor, clock)
            reference = reference_of(app) if second_process else ""
            if reference:
                await in_second_process(reference, await _histories(client))
    finally:
        skipper.stop()
        engine.stop(1.0)
