"""An application that uses every topic, and an engine and a worker of it in this process, each under its login."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from orchestrator import Orchestrator
from orchestrator.client.caller import Caller
from orchestrator.client.kafka import KafkaTransport
from orchestrator.client.requests import ClientOptions
from orchestrator.codec.signing import Signer
from orchestrator.config import Settings
from orchestrator.core.values import Actor
from orchestrator.engine.options import AnchorOptions, EngineOptions
from orchestrator.engine.run import Engine
from orchestrator.errors import OrchestratorError
from orchestrator.log.client_io import TaskConsumer
from orchestrator.log.config import LogConfig
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.store.partition_store import PartitionStore
from orchestrator.worker.options import WorkerOptions
from orchestrator.worker.remote import RemoteWorker
from orchestrator.worker.threads import ThreadExecutor
from tests.log.guarded import Guarded

QUEUE = "far"
app = Orchestrator("guarded")
word = app.signal("word", str)
waiting = app.query("waiting", str)


@app.step
def near(text: str) -> str:
    """In the engine."""
    return f"near {text}"


@app.step(queue=QUEUE)
def far(text: str) -> str:
    """At a worker."""
    return f"far {text}"


@app.workflow
async def child(text: str) -> str:
    """On a partition of its own."""
    return await near(text)


@app.workflow
async def distant(text: str) -> str:
    """A step far away, at once."""
    return await far(text)


@app.workflow
async def parent(child_id: str) -> str:
    """A child, a signal, a step far away."""
    waiting.answer(lambda: "for a word")
    text = await word.wait()
    return await far(await child.options(id=child_id)(text))


@app.workflow
async def younger() -> str:
    """It ends when it is told to."""
    return await word.wait()


@app.workflow
async def elder(child_id: str) -> str:
    """It waits for a child's outcome."""
    return await younger.options(id=child_id)()


def settings(guarded: Guarded, who: str, name: str) -> Settings:
    """A process's settings, under the login of a row."""
    return Settings(app_name=name, bootstrap=guarded.bootstrap, kafka=guarded.options(who), queues=(QUEUE,))


@contextlib.contextmanager
def engine(guarded: Guarded, name: str, protocol: str, state: Path, signer: Signer | None = None) -> Iterator[Engine]:
    """An engine under its own login, drained in the end."""
    config = LogConfig(name, guarded.bootstrap, guarded.options("engine"), group_protocol=protocol)
    options = EngineOptions(
        instance=uuid.uuid4().hex,
        claims_back=True,
        hang_s=1.0,
        anchors=AnchorOptions(signer, every_s=0.1) if signer is not None else None,
    )
    running = Engine(
        KafkaLog(config),
        app.registry,
        lambda report, freed: ThreadExecutor(app, ExecutorOptions(freed=freed), report),
        lambda number, codec: PartitionStore(state / name / str(number), codec),
        options,
    )
    running.start()
    try:
        yield running
    finally:
        running.stop(1.0)


@contextlib.contextmanager
def worker(guarded: Guarded, name: str) -> Iterator[None]:
    """A worker under its own login, on a loop of its own."""
    given = settings(guarded, "worker", name)
    ready, drain, loops = threading.Event(), asyncio.Event(), list[asyncio.AbstractEventLoop]()

    async def serve() -> None:
        caller = Caller(name, KafkaTransport(name, given), ClientOptions(actor=Actor(id="worker", via="worker")))
        working = RemoteWorker(
            WorkerOptions("worker", lease_s=5.0, renew_s=1.0, grace_s=1.0),
            caller,
            TaskConsumer(name, given),
            lambda report, freed: ThreadExecutor(app, ExecutorOptions(freed=freed), report),
        )
        caller.on_stop = working.stop
        await caller.open()
        loops.append(asyncio.get_running_loop())
        ready.set()
        try:
            await working.run(drain)
        finally:
            await caller.close()

    def run() -> None:
        # Without a right it ends, and whoever waits for its steps does so in vain.
        with contextlib.suppress(OrchestratorError):
            asyncio.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(60), "the worker did not begin"
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):
            # Its loop is closed if it has ended by itself.
            loops[0].call_soon_threadsafe(drain.set)
        thread.join(60)
