"""The worker process: real caller and executor over a scripted log; a signal drains it."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.codec.records import Codec
from orchestrator.config import Settings
from orchestrator.core.commands import Command, ReportStep, StartStep
from orchestrator.core.tasks import Reply, TaskOffer
from orchestrator.core.values import ReplyTo
from orchestrator.errors import ConfigurationError
from orchestrator.log.ports import Headers
from orchestrator.worker.loading import load_app
from orchestrator.worker.run import run_worker, serve

from .rig import APP, lines, payload, until

pytestmark = pytest.mark.slow


class ScriptedLog:
    """A transport that accepts every command at once, and the topic of offers."""

    partitions = 4
    reply_to = ReplyTo("steps-app.replies", 3)

    def __init__(self) -> None:
        self.codec = Codec()
        self.offers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.commands: list[Command] = []
        self.open_ends = {"transport", "source"}
        self._on_reply: Callable[[bytes], None]

    def open(self, on_reply: Callable[[bytes], None]) -> None:
        self._on_reply = on_reply

    def send(
        self, partition: int, key: bytes, value: bytes, done: Callable[[str], None], headers: Headers = ()
    ) -> None:
        command = self.codec.decode_command(value)
        self.commands.append(command)
        done("")
        self._on_reply(self.codec.encode(Reply(command.id, command.workflow_id, "run", "accepted")))

    def close(self) -> None:
        self.open_ends.discard("transport")

    def bodies(self, kind: type[StartStep] | type[ReportStep]) -> list[StartStep | ReportStep]:
        return [command.body for command in self.commands if isinstance(command.body, kind)]


class Offers:
    """The source of a scripted log."""

    def __init__(self, log: ScriptedLog) -> None:
        self._log = log

    def poll(self, timeout_s: float, take: bool) -> bytes | None:
        try:
            return self._log.offers.get(timeout=max(timeout_s, 0.01)) if take else None
        except queue.Empty:
            return None

    def close(self) -> None:
        self._log.open_ends.discard("source")


@pytest.mark.parametrize("isolation", ["process", "thread"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_worker(tmp_path: Path, isolation: str, number: int) -> None:
    log = ScriptedLog()
    gate = tmp_path / "gate"
    settings = Settings(app=APP, queues=("gpu",), isolation=isolation)
    offer = TaskOffer("flow", "run", "0:1", 1, "run/0:1/1", "hold", payload({"file": str(gate)}), "flow/run/0:1")
    log.offers.put(log.codec.encode(offer))

    async def run() -> None:
        work = asyncio.create_task(serve(settings, load_app(APP), log, Offers(log)))
        await asyncio.to_thread(until, lambda: lines(gate), "the step to begin")
        os.kill(os.getpid(), number)
        await asyncio.to_thread(until, lambda: "source" not in log.open_ends, "the drain to begin")
        (tmp_path / "gate.go").touch()
        await work

    asyncio.run(run())
    assert log.open_ends == set()
    [report] = log.bodies(ReportStep)
    assert isinstance(report, ReportStep)
    inside = json.loads(report.result.data) == os.getpid()
    assert inside is (isolation == "thread")
    assert {(command.actor.kind, command.actor.via) for command in log.commands} == {("service", "worker")}


def test_the_probes_of_a_worker(tmp_path: Path, free_port: int) -> None:
    log = ScriptedLog()
    settings = Settings(app=APP, queues=("gpu",), isolation="thread", health_port=free_port)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/ready", timeout=30) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError as error:
            error.close() if isinstance(error, urllib.error.HTTPError) else None
            return False

    async def run() -> None:
        work = asyncio.create_task(serve(settings, load_app(APP), log, Offers(log)))
        await asyncio.to_thread(until, ready, "the worker to be ready")
        os.kill(os.getpid(), signal.SIGTERM)
        await work

    asyncio.run(run())
    assert not ready()


def test_a_worker_without_queue_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ORCHESTRATOR_QUEUES"):
        run_worker(Settings(app=APP))
