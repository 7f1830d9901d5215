"""Two engine processes on a real broker: the owner is killed, and the other has folded what it owned."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client.kafka import KafkaTransport
from orchestrator.codec.records import Codec
from orchestrator.config import Settings
from orchestrator.core import commands as c
from orchestrator.devkafka import DevKafka
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from orchestrator.log.topics import init_topics
from tests.faults import kill_app
from tests.oracle.raw import read_raw

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
PARTITIONS = 2
RUNS = 60
PATIENCE_S = 60.0
TOOK = re.compile(r"partition (\d+): claim (\d+) after [\d.]+ s, (\d+) events restored")


class Engine:
    """A process that follows what it does not own."""

    def __init__(self, bootstrap: str, app: str, directory: Path) -> None:
        self._log = directory.with_suffix(".log")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")} | {
            "PYTHONPATH": str(ROOT),
            "ORCHESTRATOR_APP": "tests.faults.kill_app:app",
            "ORCHESTRATOR_APP_NAME": app,
            "ORCHESTRATOR_BOOTSTRAP": bootstrap,
            "ORCHESTRATOR_STATE_DIR": str(directory),
            "ORCHESTRATOR_STANDBY": "all",
            "ORCHESTRATOR_HEALTH_PORT": str(self._port),
            "ORCHESTRATOR_ISOLATION": "thread",
            "ORCHESTRATOR_GRACE_S": "3",
        }
        command = [sys.executable, "-m", "orchestrator.cli.main", "engine", "run"]
        with open(self._log, "wb") as out:
            self.process = subprocess.Popen(
                command, env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def health(self) -> dict[str, Any]:
        """What `/ready` says; nothing before it listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ready", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, urllib.error.HTTPError):
            return {"ok": False, "partitions": {}, "standby": {}}

    def owns(self) -> set[int]:
        """Partitions, once all that it was given are its own."""
        found = self.health()
        return {int(number) for number in found["partitions"]} if found["ok"] else set()

    def warm(self) -> set[int]:
        """What it follows, of which nothing is left to fold."""
        return {int(number) for number, one in self.health()["standby"].items() if one["behind"] == 0}

    def said(self) -> str:
        """Its log."""
        return self._log.read_text("utf-8", "replace")

    def until(self, holds: Callable[[], object]) -> None:
        """Wait for something."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert self.process.poll() is None, self.said()[-3000:]
            assert time.monotonic() < deadline, (self.health(), self.said()[-3000:])
            time.sleep(0.05)

    def end(self) -> None:
        """Kill it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


def test_the_partition_of_a_killed_owner_is_taken_over_warm(kafka: DevKafka, tmp_path: Path) -> None:
    app, codec = f"warm-{uuid.uuid4().hex[:6]}", Codec()
    init_topics(LogConfig(app, kafka.bootstrap), PARTITIONS)
    transport = KafkaTransport(app, Settings(app_name=app, bootstrap=kafka.bootstrap))
    transport.open(lambda reply: None)
    sent: list[str] = []

    def feed(count: int) -> None:
        for _ in range(count):
            sent.append(f"w{len(sent)}")
            body = c.StartWorkflow("child", kill_app.child.code.signature.bind((1,), {}))
            command = codec.encode_command(c.Command(uuid.uuid4().hex, sent[-1], body))
            key = sent[-1].encode()
            transport.send(partition_of(key, PARTITIONS), key, command, lambda problem: None)

    def events() -> dict[int, list[Any]]:
        found = read_raw(kafka.bootstrap, f"{app}.events")
        return {
            number: [codec.decode_event(raw.key, raw.value).event for raw in raws] for number, raws in found.items()
        }

    def ended() -> bool:
        kinds = [type(event.body).__name__ for part in events().values() for event in part]
        return kinds.count("RunCompleted") == len(sent)

    engines = [Engine(kafka.bootstrap, app, tmp_path / name) for name in ("first", "second")]
    first, second = engines
    try:
        second.until(lambda: len(second.owns()) == 1 and len(first.owns()) == 1)
        (number,) = first.owns()
        feed(RUNS)
        second.until(ended)
        second.until(lambda: second.warm() == {number})
        first.end()
        second.until(lambda: second.owns() == {0, 1})
        left = [int(count) for which, _, count in TOOK.findall(second.said()) if int(which) == number][-1]
        assert left <= len(events()[number]) / 10, "what the first owner wrote was folded again"
        assert f"partition {number}: taken over from its standby" in second.said()
        assert second.health()["standby"] == {}
        feed(6)
        second.until(ended)
    finally:
        for engine in engines:
            engine.end()
        transport.close()
