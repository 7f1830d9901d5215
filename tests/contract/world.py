"""An application under test: on the log in memory or on a real broker, in one of the modes."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from orchestrator import Client, Orchestrator
from orchestrator.client.caller import Caller
from orchestrator.client.kafka import KafkaTransport
from orchestrator.client.requests import ClientOptions
from orchestrator.client.transport import Transport
from orchestrator.codec.records import Codec
from orchestrator.config import Settings
from orchestrator.core.events import CommandRejected, Event, SlotsAwaited, SlotsGranted
from orchestrator.core.replay import BatchAssembler
from orchestrator.core.values import Actor, LimitedTask
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.run import Engine
from orchestrator.log.client_io import TaskConsumer
from orchestrator.log.config import LogConfig
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.log.ports import Log
from orchestrator.log.topics import init_topics
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.store.blobs import DirectoryBlobs
from orchestrator.store.memory_store import MemoryStore
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, create_topics
from orchestrator.testing.transport import MemoryTransport
from orchestrator.worker.options import WorkerOptions
from orchestrator.worker.remote import RemoteWorker, TaskSource
from orchestrator.worker.threads import ThreadExecutor
from tests.contract.engine_process import EngineProcess, Order, whereabouts
from tests.contract.modes import Mode
from tests.contract.queued import QUEUE, every_step_queued
from tests.oracle.raw import READ_COMMITTED, RawRecord, read_raw

CODEC = Codec()
Scenario = Callable[[Client], Awaitable[None]]


class Ground(Protocol):
    """Where the application's log lies."""

    def log(self) -> Log: ...
    def transport(self) -> Transport: ...
    def source(self) -> TaskSource: ...
    def records(self, topic: str) -> list[list[RawRecord]]: ...


class MemoryGround:
    """A cluster in memory, of this test alone."""

    def __init__(self, app: str, partitions: int) -> None:
        self._app = app
        self._partitions = partitions
        self.cluster = MemoryCluster()
        self._group = MemoryGroup(partitions)
        create_topics(self.cluster, app, partitions)
        self.cluster.create(f"{app}.tasks.{QUEUE}", partitions)

    def log(self) -> Log:
        return MemoryLog(self.cluster, self._app, self._group)

    def transport(self) -> Transport:
        return MemoryTransport(self.cluster, self._app, self._partitions)

    def source(self) -> TaskSource:
        return MemorySource(self.cluster, f"{self._app}.tasks.{QUEUE}")

    def records(self, topic: str) -> list[list[RawRecord]]:
        """What a reader of committed records sees of one of the application's topics, by partition."""
        with self.cluster.changed:
            logs = self.cluster.topics[f"{self._app}.{topic}"].partitions
            return [[RawRecord(*wire) for wire in log.read(log.start, 1 << 30, True)[0]] for log in logs]


class MemorySource:
    """The only worker of a task queue in memory."""

    def __init__(self, cluster: MemoryCluster, topic: str) -> None:
        self._cluster = cluster
        self._logs = cluster.topics[topic].partitions
        self._read = [0] * len(self._logs)

    def poll(self, timeout_s: float, take: bool) -> bytes | None:
        """The next offer, if there is one within `timeout_s` seconds and one may be taken."""
        with self._cluster.changed:
            for _ in range(2):
                for number, log in enumerate(self._logs) if take else ():
                    wires, after = log.read(self._read[number], 1)
                    self._read[number] = after
                    if wires:
                        return wires[0].value
                self._cluster.changed.wait(timeout_s)
        return None

    def close(self) -> None:
        """Nothing is held."""


class KafkaGround:
    """A real broker; the application's name is of this test alone. Partitions are dealt out by the group."""

    def __init__(self, app: str, partitions: int, bootstrap: str) -> None:
        self._app = app
        self._settings = Settings(app_name=app, bootstrap=bootstrap, queues=(QUEUE,))
        self.config = LogConfig(app, bootstrap)
        init_topics(self.config, partitions, [QUEUE])

    def log(self) -> Log:
        return KafkaLog(self.config)

    def transport(self) -> Transport:
        return KafkaTransport(self._app, self._settings)

    def source(self) -> TaskSource:
        return TaskConsumer(self._app, self._settings)

    def records(self, topic: str) -> list[list[RawRecord]]:
        """What a reader of committed records sees of one of the application's topics, by partition."""
        return list(read_raw(self.config.bootstrap, f"{self._app}.{topic}", READ_COMMITTED).values())


class World:
    """Runs a scenario against an application. Every scenario gets a log and a name of its own."""

    def __init__(self, mode: Mode, bootstrap: str = "") -> None:
        self.mode = mode
        self._bootstrap = bootstrap
        self.ground: Ground | None = None
        self.engines: list[Engine | EngineProcess] = []
        """Oldest first; one that starts, or ends, is among them."""
        self.stores: list[dict[int, MemoryStore]] = []
        """State of every engine of this process, by partition."""
        self.blobs: DirectoryBlobs | None = None
        """The engines' large values, if the scenario has some."""
        self._theirs: DirectoryBlobs | None = None
        self.moves = asyncio.Lock()
        """Held by who starts and ends engines while the test goes on: the mode may do so, too, at any time."""
        self._over = False
        self._app: Orchestrator | None = None

    @property
    def in_memory(self) -> bool:
        """Whether there is no broker."""
        return not self._bootstrap

    def run(
        self, app: Orchestrator, scenario: Scenario, *, blobs: str = "", worker: bool = False, **options: Any
    ) -> None:
        """Run engines (and a worker of `QUEUE`, if the mode or `worker` wants one) and the scenario.

        `options` are more EngineOptions. `blobs` says who has the directory of large values: nobody, "engines" or
        "all".
        """
        self._working = worker or self.mode.remote
        self._options = {"prove_s": 5.0, **self.mode.options, **options}
        with self._named(app), self._routed(), tempfile.TemporaryDirectory() as self._scratch:
            self.blobs = DirectoryBlobs(Path(self._scratch) / "blobs") if blobs else None
            self._theirs = self.blobs if blobs == "all" else None
            self._options["blobs"] = self.blobs
            asyncio.run(self._run(app, scenario))

    @contextlib.contextmanager
    def _named(self, app: Orchestrator) -> Iterator[None]:
        name, app.name = app.name, f"{app.name}-{uuid.uuid4().hex[:8]}"
        try:
            yield
        finally:
            app.name = name

    def _routed(self) -> contextlib.AbstractContextManager[None]:
        return every_step_queued() if self.mode.remote else contextlib.nullcontext()

    async def _run(self, app: Orchestrator, scenario: Scenario) -> None:
        app.registry.check()
        self._app, partitions = app, self.mode.partitions
        if self._bootstrap:
            self.ground = await asyncio.to_thread(KafkaGround, app.name, partitions, self._bootstrap)
        else:
            self.ground = MemoryGround(app.name, partitions)
        try:
            await asyncio.to_thread(self.start)
            transport, client_options = self.ground.transport(), ClientOptions(parked="raise")
            async with (
                Client.connect(app, transport=transport, options=client_options, blobs=self._theirs) as client,
                self._worker(app),
                self._dealing(),
            ):
                await scenario(client)
        finally:
            await asyncio.to_thread(self._stop)

    # -- engines -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start as many engines as the mode wants, with empty stores."""
        for _ in range(self.mode.engines - len(self.engines)):
            self._add()

    def _add(self) -> None:
        """One more engine, in a process of its own or as one would be, with the code of the newest release.

        Another process cannot find an application that was made within a test.
        """
        found = whereabouts(self._app) if self.mode.processes and self._app is not None else None
        engine = self._thread() if found is None else self._process(*found)
        self.engines.append(engine)
        engine.start()

    def _thread(self) -> Engine:
        assert self.ground is not None
        assert self._app is not None
        app, stores = self._app, dict[int, MemoryStore]()
        self.stores.append(stores)
        return Engine(
            self.ground.log(),
            app.registry,
            lambda report, freed: ThreadExecutor(app, ExecutorOptions(freed=freed), report),
            lambda number, codec: stores.setdefault(number, MemoryStore(codec)),
            EngineOptions(**self._options, instance=uuid.uuid4().hex, claims_back=True),
        )

    def _process(self, module: str, attribute: str) -> EngineProcess:
        assert self._app is not None
        state = f"{self._scratch}/{uuid.uuid4().hex}"
        return EngineProcess(Order(module, attribute, self._app.name, self._bootstrap, self._options, state))

    def _stop(self) -> None:
        """End every engine, oldest first."""
        while self.engines:
            self._stop_oldest()

    def _stop_oldest(self) -> None:
        try:
            self.engines[0].stop(1.0)
        finally:
            self.engines.pop(0)

    async def _replace(self) -> None:
        """An engine comes, the oldest goes."""
        await asyncio.to_thread(self._add)
        await asyncio.to_thread(self._stop_oldest)

    async def at_least(self, engines: int) -> None:
        """As many engines as that, however many the mode has."""
        async with self.moves:
            while len(self.engines) < engines:
                await asyncio.to_thread(self._add)

    async def deploy(self, app: Orchestrator, engines: int = 0) -> None:
        """Roll `app` out, as the next release: one engine after the other is replaced (`engines` of them; 0: all)."""
        self._app = app
        for _ in range(engines or len(self.engines)):
            async with self.moves:
                await self._replace()

    async def restart(self) -> None:
        """End every engine and start new ones with empty stores: all that remains is the log."""
        async with self.down():
            pass

    @contextlib.asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """No engine runs within the block, whatever the mode; new ones do after it, with empty stores."""
        async with self.moves:
            await asyncio.to_thread(self._stop)
            yield
            await asyncio.to_thread(self.start)

    async def end(self) -> None:
        """End every engine; none comes any more, whatever the mode: the log stays as it is."""
        async with self.moves:
            self._over = True
            await asyncio.to_thread(self._stop)

    async def granted(self, limit: str) -> list[tuple[int, LimitedTask]]:
        """When, by the log's clock, and to whom the home of a limit granted slots of it, in its order."""
        return [(at, body.task) for at, body in await self.asked(limit) if isinstance(body, SlotsGranted)]

    async def asked(self, limit: str) -> list[tuple[int, SlotsAwaited | SlotsGranted]]:
        """What the home of a limit recorded of the tasks that need it, each with the log's clock there, in its order.

        Only such times compare: each partition of the log has a clock of its own.
        """
        assert self.ground is not None
        found: list[tuple[int, SlotsAwaited | SlotsGranted]] = []
        for events in await self.events():
            tasks = set[str]()
            for event in events:
                body = event.body
                if not isinstance(body, SlotsAwaited | SlotsGranted):
                    continue
                if any(need.name == limit for need in body.needs):
                    tasks.add(body.task.id)
                if body.task.id in tasks:
                    found.append((event.recorded_at_ms, body))
        return found

    async def events(self) -> list[list[Event]]:
        """Every visible event, by partition."""
        assert self.ground is not None
        found = []
        for records in await asyncio.to_thread(self.ground.records, "events"):
            assembler = BatchAssembler("events")
            batches = [assembler.feed(CODEC.decode_event(raw.key, raw.value), raw.offset) for raw in records]
            found.append([record.event for batch in batches if batch for record in batch.records])
        return found

    async def refused(self, workflow_id: str) -> list[Event]:
        """Wait until the log has a refused command to a workflow; all of them."""
        while True:
            events = [event for part in await self.events() for event in part if event.workflow_id == workflow_id]
            if found := [event for event in events if isinstance(event.body, CommandRejected)]:
                return found
            await asyncio.sleep(0.05)

    # -- what a mode adds --------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _worker(self, app: Orchestrator) -> AsyncIterator[None]:
        if not self._working:
            yield
            return
        assert self.ground is not None
        drain = asyncio.Event()
        caller = Caller(app.name, self.ground.transport(), ClientOptions(actor=Actor(id="worker", via="worker")))
        worker = RemoteWorker(
            WorkerOptions("worker", lease_s=5.0, renew_s=1.0, grace_s=1.0, blobs=self._theirs),
            caller,
            self.ground.source(),
            lambda report, freed: ThreadExecutor(app, ExecutorOptions(freed=freed), report),
        )
        caller.on_stop = worker.stop
        await caller.open()
        working = asyncio.create_task(worker.run(drain))
        try:
            yield
        finally:
            drain.set()
            await working
            await caller.close()

    @contextlib.asynccontextmanager
    async def _dealing(self) -> AsyncIterator[None]:
        """A rebalance every few seconds: an engine comes, another goes."""
        if not self.mode.deal_s:
            yield
            return

        async def deal() -> None:
            while True:
                await asyncio.sleep(self.mode.deal_s)
                async with self.moves:
                    if self._over:
                        return
                    await self._replace()

        dealing = asyncio.create_task(deal())
        try:
            yield
        finally:
            async with self.moves:
                # Between two moves: a thread that starts an engine would not hear of it.
                dealing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await dealing
