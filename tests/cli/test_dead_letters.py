"""Dead letters of a topic with more partitions than we make, on a real broker."""

from __future__ import annotations

import json
import time
import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from orchestrator.cli.main import main
from orchestrator.codec.records import Codec
from orchestrator.core.tasks import DeadLetter
from orchestrator.core.values import Payload
from orchestrator.devkafka import DevKafka
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics


@pytest.mark.broker
def test_letters_of_every_partition_are_listed_oldest_first(
    kafka: DevKafka, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"letters-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", name)
    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", kafka.bootstrap)
    init_topics(LogConfig(name, kafka.bootstrap), 1)
    topic = f"{name}.dead-letters"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
    codec, producer = Codec(), Producer({"bootstrap.servers": kafka.bootstrap})
    # Not of years ago: the broker deletes what is older than the topic's retention, whenever it looks.
    began = int(time.time() * 1000)
    for at, partition in enumerate((2, 0, 1, 2)):
        letter = DeadLetter(f"{name}.commands", 0, at, f"reason {at}", b"k", Payload("bytes", data=b"%d" % at))
        producer.produce(topic, codec.encode(letter), b"k", partition, timestamp=began + at)
        assert producer.flush(30) == 0

    def run(*words: str) -> object:
        assert main(["dead-letters", *words, "-o", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    listed = run("list")
    assert isinstance(listed, list)
    assert [(row["number"], row["reason"]) for row in listed] == [
        ("2/0", "reason 0"),
        ("0", "reason 1"),
        ("1/0", "reason 2"),
        ("2/1", "reason 3"),
    ]
    for row in listed:
        shown = run("show", row["number"])
        assert isinstance(shown, dict)
        assert (shown["number"], shown["reason"]) == (row["number"], row["reason"])
    assert main(["dead-letters", "show", "3/0"]) == 3
