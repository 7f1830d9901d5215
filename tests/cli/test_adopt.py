"""`topics adopt` on a real broker: a topic made again with the same records at the same offsets."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator import Orchestrator
from orchestrator.cli.main import main
from orchestrator.core import events as e
from orchestrator.devkafka import DevKafka
from orchestrator.engine.partition import State
from orchestrator.store.partition_store import PartitionStore
from tests.engine.rig import KafkaSite, Rig
from tests.oracle.raw import RawRecord

pytestmark = pytest.mark.broker

WAIT_S = 60.0


def mirrored(bootstrap: str, topic: str, records: list[RawRecord]) -> None:
    """Delete the topic and make it again: the same records, at the same offsets."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(WAIT_S)
    until(lambda: made(admin, topic))
    until(lambda: topic in admin.list_topics(timeout=WAIT_S).topics)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": uuid.uuid4().hex, "linger.ms": 0})
    producer.init_transactions(WAIT_S)
    following = 0
    for record in records:
        if record.offset != following:
            # A transaction's marker stood here.
            assert record.offset == following + 1
            producer.commit_transaction(WAIT_S)
        if record.offset != following or not following:
            producer.begin_transaction()
        producer.produce(topic, record.value, record.key, 0)
        assert producer.flush(WAIT_S) == 0
        following = record.offset + 1
    producer.commit_transaction(WAIT_S)


def made(admin: AdminClient, topic: str) -> bool:
    """Whether the topic could be created; its deletion takes a moment."""
    try:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(WAIT_S)
    except KafkaException:
        return False
    return True


def until(found: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_a_mirrored_log_is_adopted_and_a_run_goes_on(
    kafka: DevKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    app = Orchestrator(f"adopt-{uuid.uuid4().hex[:8]}")
    go = app.signal("go", int)

    @app.workflow
    async def waits() -> int:
        return await go.wait()

    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", app.name)
    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(tmp_path))
    one = Rig(app, KafkaSite(app.name, kafka.bootstrap, 1))

    def stores() -> dict[int, PartitionStore]:
        return {0: PartitionStore(tmp_path / app.name / "0", one.codec)}

    def run(*words: str, code: int = 0) -> str:
        assert main(["topics", "adopt", *words, "-o", "json"]) == code
        (row,) = json.loads(capfd.readouterr().out)
        return str(row["says"])

    try:
        engine = one.engine(stores=stores())  # type: ignore[arg-type]
        one.start("w", waits)
        engine.stop(5.0)
        assert "nothing to adopt" in run()
        mirrored(kafka.bootstrap, f"{app.name}.events", one.records("events")[0])
        engine = one.engine(stores=stores())  # type: ignore[arg-type]
        until(lambda: 0 in engine.partitions and engine.partitions[0].state is State.PARKED)
        assert "topics adopt" in engine.partitions[0].problem
        engine.stop(1.0)
        assert "the same log" in run(code=1)
        assert "adopted" in run("--yes", "--reason", "a new cluster")
        assert "nothing to adopt" in run()
        one.engine(stores=stores())  # type: ignore[arg-type]
        one.signal("w", "go", b"7")
        assert one.result("w") == b"7"
        assert [body.reason for body in one.bodies(e.TopicsAdopted)] == ["a new cluster"]
    finally:
        one.close()
