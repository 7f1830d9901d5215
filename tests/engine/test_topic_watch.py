"""Topics that are deleted and made again under a running engine: its partitions go down, and say what to do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator import Orchestrator
from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from orchestrator.devkafka import DevKafka
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from tests.engine.rig import KafkaSite, MemorySite, Rig

WAIT_S = 60.0
PARTITIONS = 2
OFTEN = EngineOptions(topics_every_s=0.2)


def waiting_app(name: str) -> Orchestrator:
    """Runs that wait for a signal."""
    app = Orchestrator(name)
    go = app.signal("go", int)

    @app.workflow(name="waits")
    async def waits() -> int:
        return await go.wait()

    return app


def until(found: Callable[[], bool], what: object) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def parked(engine: Engine, name: str) -> None:
    """Every partition stands still, naming the topic and what to do."""
    until(lambda: {part.state for part in engine.partitions.values()} == {State.PARKED}, engine.health())
    for number, partition in engine.partitions.items():
        assert f"{engine.log.app}.{name}" in partition.problem
        assert "deleted and created again" in partition.problem
        assert "topics adopt" in partition.problem
        assert f"partition repair {number}" in partition.problem
    assert not engine.health().ready


@pytest.mark.parametrize("name", ["events", "commands"])
def test_a_topic_made_again_takes_its_partitions_down(name: str) -> None:
    one = Rig(waiting_app("watched"), MemorySite("watched", PARTITIONS))
    try:
        engine = one.engine(OFTEN)
        one.accepted("w", c.StartWorkflow("waits", Payload(data=b"{}")))
        until(lambda: engine.health().ready, engine.health())
        with one.cluster.changed:
            one.cluster.delete(f"watched.{name}")
            one.cluster.create(f"watched.{name}", PARTITIONS)
        parked(engine, name)
    finally:
        one.close()


def test_nothing_happens_while_the_topics_are_what_they_were() -> None:
    one = Rig(waiting_app("unchanged"), MemorySite("unchanged", PARTITIONS))
    try:
        engine = one.engine(EngineOptions(topics_every_s=0.001))
        one.accepted("w", c.StartWorkflow("waits", Payload(data=b"{}")))
        until(lambda: engine.health().ready, engine.health())
        one.signal("w", "go", b"7")
        assert one.result("w") == b"7"
        assert engine.health().ready
    finally:
        one.close()


@pytest.mark.broker
def test_a_topic_really_made_again(kafka: DevKafka) -> None:
    app = waiting_app(f"watched-{uuid.uuid4().hex[:8]}")
    one = Rig(app, KafkaSite(app.name, kafka.bootstrap, PARTITIONS))
    try:
        engine = one.engine(OFTEN)
        one.accepted("w", c.StartWorkflow("waits", Payload(data=b"{}")))
        until(lambda: engine.health().ready, engine.health())
        name = f"{app.name}.events"
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.delete_topics([name])[name].result(WAIT_S)
        until(lambda: made(admin, name), "the topic cannot be made again")
        parked(engine, "events")
    finally:
        one.close()


def made(admin: AdminClient, name: str) -> bool:
    """Whether the topic could be created; its deletion takes a moment."""
    try:
        admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(WAIT_S)
    except KafkaException:
        return False
    return True
