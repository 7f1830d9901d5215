"""A whole application framed for a schema registry, over real processes, a real broker and real HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from orchestrator.client.blocking import BlockingClient
from orchestrator.config import Settings
from orchestrator.devkafka import DevKafka
from orchestrator.log.partitioner import partition_of
from tests.architecture.source import ROOT
from tests.cli.conftest import Ran
from tests.cli.registered import app, sums
from tests.codec.registry_server import RegistryServer
from tests.oracle.raw import READ_COMMITTED, RawRecord, read_raw

WAIT_S = 60
Run = Callable[..., Ran]
TOPICS = ("commands", "events", "replies", "tasks.elsewhere", "anchors")


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    server = RegistryServer(auth="me:secret")
    yield server
    server.close()


@pytest.fixture
def environment(kafka: DevKafka, registry: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of every process of this test, in the environment."""
    for name, value in {
        "ORCHESTRATOR_APP": "tests.cli.registered:app",
        "ORCHESTRATOR_BOOTSTRAP": kafka.bootstrap,
        "ORCHESTRATOR_STATE_DIR": str(tmp_path / "state"),
        "ORCHESTRATOR_PARTITIONS": "2",
        "ORCHESTRATOR_ISOLATION": "thread",
        "ORCHESTRATOR_WIRE": "confluent",
        "ORCHESTRATOR_ANCHOR_KEY": str(tmp_path / "anchor.pem"),
        "ORCHESTRATOR_ANCHOR_PUBLIC": str(tmp_path / "anchor.pem.pub"),
        "ORCHESTRATOR_REGISTRY_URL": registry.url.replace("://", "://me:secret@"),
        "PYTHONPATH": str(ROOT),
    }.items():
        monkeypatch.setenv(name, value)
    return Settings.from_env()


@contextmanager
def process(log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A consumer's process, drained in the end."""
    with log.open("wb") as out:
        started = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", *words], env=dict(os.environ), stdout=out, stderr=out
        )
    try:
        yield started
        started.send_signal(signal.SIGTERM)
        assert started.wait(WAIT_S) == 0, log.read_text(encoding="utf-8")
    finally:
        started.kill()
        started.wait()


def records(settings: Settings, topic: str) -> list[RawRecord]:
    """Every visible record of one topic."""
    found = read_raw(settings.bootstrap, f"{app.name}.{topic}", READ_COMMITTED)
    return [record for part in found.values() for record in part]


@pytest.mark.broker
def test_every_topic_speaks_the_registry_s_format(
    environment: Settings, registry: RegistryServer, run: Run, tmp_path: Path
) -> None:
    assert run("audit", "keygen", str(tmp_path / "anchor.pem")).code == 0
    before = run("engine", "run")
    assert before.code == 2
    assert "topics init" in before.err
    assert run("topics", "init").code == 0
    assert run("topics", "check").code == 0
    with ExitStack() as stack:
        stack.enter_context(process(tmp_path / "engine.log", "engine", "run"))
        stack.enter_context(process(tmp_path / "worker.log", "worker", "run", "--queue", "elsewhere"))
        with BlockingClient.connect(app, environment) as client:
            assert client.start(sums.options(id="w"), 20).result(WAIT_S) == 42
        history = run("workflow", "history", "w", "-o", "jsonl")
        assert [json.loads(line)["type"] for line in history.out.splitlines()] == [
                "RunStarted", "StepScheduled", "StepCompleted", "StepScheduled", "StepLeased", "StepCompleted",
                "RunCompleted",
            ]  # fmt: skip
        poison(environment, b"\x00\x00\x00\x00\x07body")
        deadline = time.monotonic() + WAIT_S
        while not (letters := run("dead-letters", "list", "-o", "json").json):
            assert time.monotonic() < deadline
        assert f"schema id 7: the schema registry {registry.url} has no Avro schema of this id" in letters[0]["reason"]
        # Ids are kept: nobody who runs needs the registry again.
        registry.failing = 503
        with BlockingClient.connect(app, environment) as client:
            assert client.start(sums.options(id="v"), 1).result(WAIT_S) == 4
        registry.failing = 0
    for topic in TOPICS:
        values = [record.value for record in records(environment, topic) if record.value[5:] != b"body"]
        assert values, topic
        assert {value[:1] for value in values} == {b"\x00"}, topic
        assert {int.from_bytes(value[1:5], "big") for value in values} <= registry.texts.keys()
    verified = run("audit", "verify", "--state")
    assert verified.code == 0, verified.out
    assert verified.out.count("state equal") == 2
    assert "complete up to every partition's signed head" in verified.out
    assert "secret" not in "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.log"))


def poison(settings: Settings, value: bytes) -> None:
    """A command with bytes of one's own."""
    producer = Producer({"bootstrap.servers": settings.bootstrap})
    producer.produce(f"{app.name}.commands", value, b"w", partition_of(b"w", 2))
    assert producer.flush(WAIT_S) == 0


@pytest.mark.parametrize(
    "words",
    [("engine", "run"), ("worker", "run", "--queue", "elsewhere"), ("workflow", "list"), ("dead-letters", "list")],
)
def test_a_registry_that_is_down_at_the_start_is_a_sentence_and_code_6(
    registry: RegistryServer, run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    registry.close()
    monkeypatch.setenv("ORCHESTRATOR_APP", "tests.cli.registered:app")
    monkeypatch.setenv("ORCHESTRATOR_WIRE", "confluent")
    monkeypatch.setenv("ORCHESTRATOR_REGISTRY_URL", registry.url)
    done = run(*words)
    assert done.code == 6, done.err
    assert f"the schema registry {registry.url} cannot be reached" in done.err


def test_a_wrong_address_is_a_sentence_and_code_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_APP", "tests.cli.registered:app")
    monkeypatch.setenv("ORCHESTRATOR_WIRE", "confluent")
    monkeypatch.setenv("ORCHESTRATOR_REGISTRY_URL", "registry:8081")
    done = run("workflow", "list")
    assert done.code == 2
    assert "ORCHESTRATOR_REGISTRY_URL must be an address" in done.err
