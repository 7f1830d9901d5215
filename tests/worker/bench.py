"""A remote worker at work, on offers from a queue and answers by a rule."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from orchestrator.client.requests import NO_REQUEST, Request
from orchestrator.codec.records import Codec
from orchestrator.core.commands import HeartbeatStep, TopicCommand
from orchestrator.core.tasks import Reply, TaskOffer
from orchestrator.errors import CommandRejected
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.worker.executor import Executor
from orchestrator.worker.options import WorkerOptions
from orchestrator.worker.remote import RemoteWorker

from .rig import APP, LONG_S, lines, payload

Decide = Callable[[TopicCommand, Request], None]


class Source:
    """Task topics in a queue. Counts how often it was asked for an offer, and whether it was left."""

    def __init__(self) -> None:
        self.offers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.idle = threading.Event()
        self.closed = False
        self.full = threading.Event()

    def poll(self, timeout_s: float, take: bool) -> bytes | None:
        assert not self.closed
        if not take:
            self.full.set()
            return None
        try:
            return self.offers.get(timeout=timeout_s)
        except queue.Empty:
            self.idle.set()
            return None

    def close(self) -> None:
        self.closed = True


class Engine:
    """Takes commands as the engine would, by a rule; keeps them."""

    def __init__(self, decide: Decide = lambda body, request: None) -> None:
        self.decide = decide
        self.commands: list[TopicCommand] = []
        self.ids: list[str] = []
        self.slow: dict[type[Any], asyncio.Event] = {}
        """Commands whose first answer waits for an event."""
        self.changed = asyncio.Condition()

    async def command(self, workflow_id: str, body: TopicCommand, request: Request = NO_REQUEST) -> Reply:
        assert workflow_id == "flow"
        async with self.changed:
            self.commands.append(body)
            self.ids.append(request.command_id)
            self.changed.notify_all()
        self.decide(body, request)
        slow = self.slow.pop(type(body), None)
        if slow is not None:
            await slow.wait()
        return Reply("id", workflow_id, "run", "accepted")

    def of(self, kind: type[Any]) -> list[Any]:
        return [body for body in self.commands if isinstance(body, kind)]

    def beats(self, token: str) -> int:
        return sum(beat.token == token for beat in self.of(HeartbeatStep))

    async def wait_for_beats(self, token: str, count: int) -> None:
        async with asyncio.timeout(LONG_S), self.changed:
            await self.changed.wait_for(lambda: self.beats(token) >= count)

    async def wait_for(self, kind: type[Any], count: int = 1) -> list[Any]:
        async with asyncio.timeout(LONG_S), self.changed:
            await self.changed.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)


class Bench:
    """A worker at work."""

    def __init__(self, decide: Decide = lambda body, request: None, unsafe: bool = False, **options: Any) -> None:
        self.source = Source()
        self.on_crash = "park" if unsafe else "retry"
        self.engine = Engine(decide)
        self.drain = asyncio.Event()
        self.worker = RemoteWorker(
            WorkerOptions("worker-1", **options),
            self.engine,
            self.source,
            lambda report, freed: Executor(APP, ExecutorOptions(freed=freed), report),
        )
        self._codec = Codec()
        self._count = 0
        self.task: asyncio.Task[frozenset[str]] | None = None

    def offer(self, name: str, heartbeat_ms: int = 0, **arguments: Any) -> str:
        """Offer a step; its token."""
        self._count += 1
        step = f"0:{self._count}"
        token = f"run/{step}/1"
        offer = TaskOffer("flow", "run", step, 1, token, name, payload(arguments), "key", heartbeat_ms=heartbeat_ms)
        self.again(offer._replace(on_crash=self.on_crash))
        return token

    def again(self, offer: TaskOffer) -> None:
        self.source.offers.put(self._codec.encode(offer))

    async def end(self) -> frozenset[str]:
        """Drain, and wait for the end."""
        assert self.task is not None
        self.drain.set()
        async with asyncio.timeout(LONG_S):
            return await self.task


def work(test: Callable[[Bench], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a test against a worker; the worker must end cleanly."""

    async def run() -> None:
        bench = Bench(**options)
        bench.task = asyncio.create_task(bench.worker.run(bench.drain))
        try:
            await test(bench)
        finally:
            await bench.end()
        assert bench.source.closed

    asyncio.run(run())


async def begun(file: Path, count: int = 1) -> list[str]:
    async with asyncio.timeout(LONG_S):
        while len(lines(file)) < count:
            await asyncio.sleep(0.01)
    return lines(file)


def refuse(kind: type[Any], code: str = "stale_attempt") -> Decide:
    """Refuse commands of one kind."""

    def decide(body: TopicCommand, request: Request) -> None:
        if isinstance(body, kind):
            raise CommandRejected("not yours", code=code)

    return decide
