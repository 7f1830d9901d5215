"""The commands of docs/runbook.md when Kafka, or what is asked beside it, is away or refuses."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from orchestrator.cli import exits
from orchestrator.devkafka import DevKafka
from tests.codec.registry_server import RegistryServer
from tests.docs.conftest import PARTITIONS, WAIT_S, EngineProcess, Place, troubled, until
from tests.docs.runbook import Entry
from tests.docs.test_runbook import status
from tests.docs.test_runbook_engines import done, start
from tests.log.guarded import Guarded, Right
from tests.log.secured import variables

Page = Callable[[str], Entry]
pytestmark = pytest.mark.broker


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> Iterator[DevKafka]:
    """One broker of the test's own, or as many as it says: some are away for a while."""
    with DevKafka.start(nodes=getattr(request, "param", 1)) as found:
        try:
            yield found
        finally:
            found.nodes[0].resume()


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    broker = Guarded()
    try:
        yield broker
    finally:
        broker.kafka.stop()


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    made = RegistryServer()
    yield made
    made.close()


def need_replicas(kafka: DevKafka, topic: str, count: int) -> None:
    """So many replicas of a topic must be in sync for a write."""
    entry = ConfigEntry("min.insync.replicas", str(count), incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.incremental_alter_configs([change])[change].result(WAIT_S)


def test_a_cluster_that_is_away(page: Page, place: Place, kafka: DevKafka) -> None:
    away = page("A cluster that is away")
    place.run("topics", "init")
    with place.engine():
        before = done(place, "before")
        kafka.nodes[0].pause()
        assert "no Kafka answers" in away("orchestrator doctor", code=1)
        kafka.nodes[0].resume()
        done(place, "back")
        assert status(place, before) == "completed"
        assert "every partition is answered for" in away("orchestrator doctor")
    place.run("audit", "verify")


@pytest.mark.parametrize("kafka", [3], indirect=True)
def test_a_cluster_that_takes_nothing(page: Page, place: Place, kafka: DevKafka) -> None:
    """Of three replicas of events three must be in sync, and a broker is gone."""
    away, run = page("A cluster that is away"), troubled("under")
    topic, lost = f"{place.app}.events", kafka.nodes[2]
    place.run("topics", "init")
    with place.engine() as engine:
        need_replicas(kafka, topic, 3)
        before = done(place, "before")
        assert topic not in away("kafka-topics.sh --bootstrap-server HOST:PORT --describe --under-min-isr-partitions")
        lost.terminate()
        said = away("kafka-topics.sh --bootstrap-server HOST:PORT --describe --under-min-isr-partitions")
        assert said.count(f"Topic: {topic}") == PARTITIONS
        place.line([*start(run), "--timeout", "1"], exits.TIMEOUT)
        assert "min.insync.replicas is 3 of 3 replicas" in away("orchestrator topics check", code=1)
        assert engine.process.poll() is None
        lost.start()
        until(lambda: status(place, run) == "completed")
        assert status(place, before) == "completed"
        need_replicas(kafka, topic, 2)
        kafka.wait_ready()
        until(lambda: place._main(["topics", "check"])[0] == 0)
    place.run("audit", "verify")


def test_a_refused_login_and_a_right_that_was_taken(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Place(guarded.kafka, tmp_path, capfd)
    page = place.page
    refused = page("A refused login or right")
    settings = {"APP": "tests.docs.stuck:app", "APP_NAME": place.app, "BOOTSTRAP": guarded.bootstrap, "PARTITIONS": "4"}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        settings |= {"STATE_DIR": str(tmp_path / "state"), "HEALTH_PORT": str(probe.getsockname()[1])}
    logins = {who: variables(guarded.options(who)) for who in ("topics init", "engine", "doctor")}
    for name, value in settings.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)
    guarded.allow(place.app)
    with monkeypatch.context() as patch:
        for name, value in logins["topics init"].items():
            patch.setenv(name, value)
        place.run("topics", "init")
    for name, value in logins["doctor"].items():
        monkeypatch.setenv(name, value)
    with place.engine(**logins["engine"], ORCHESTRATOR_MEMBERSHIP="group") as engine:
        assert "every partition is answered for" in refused("orchestrator doctor")
        right = Right("topics", "Read", "commands")
        guarded.take(place.app, "engine", right)
        until(lambda: not_ready(place))
        assert "lacks the right Read on topic" in refused("orchestrator engine status", code=1)
        guarded.give(place.app, "engine", right)
        until(lambda: not not_ready(place))
        assert engine.process.poll() is None
    monkeypatch.setenv("ORCHESTRATOR_KAFKA_SASL_PASSWORD", "another")
    assert "does not let us in" in refused("orchestrator doctor", code=1)


def not_ready(place: Place) -> bool:
    """Whether the engine says so."""
    return place._main(["engine", "status"])[0] != 0


def test_a_schema_registry_that_is_away(
    page: Page, place: Place, registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, first = page("A schema registry that is away"), page("Runbook")
    monkeypatch.setenv("ORCHESTRATOR_WIRE", "confluent")
    monkeypatch.setenv("ORCHESTRATOR_REGISTRY_URL", registry.url)
    away("orchestrator topics init")
    with place.engine() as engine:
        done(place, "before")
        registry.failing = 503
        assert registry.url in away("orchestrator topics check", code=exits.NO_KAFKA)
        other = EngineProcess(place.environment(ORCHESTRATOR_STATE_DIR=str(place.directory / "other")))
        try:
            assert other.process.wait(WAIT_S) == exits.NO_KAFKA
        finally:
            other.kill()
        assert engine.process.poll() is None
        registry.failing = 0
        assert "every schema is registered" in away("orchestrator topics check")
        done(place, "after")
        away("orchestrator dead-letters list")
        assert "bad" not in first("orchestrator topics check")
