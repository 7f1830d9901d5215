"""Reading raw topics of a real broker: committed and aborted records, ends, open transactions."""

from __future__ import annotations

import uuid
from typing import Protocol

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from examples.environment_audit.ledger import Raw, committed, read_topic

from .logs import clean
from .oracle import check
from .raw import READ_UNCOMMITTED, open_transactions, read_raw

pytestmark = pytest.mark.broker


class Broker(Protocol):
    """The session's broker."""

    bootstrap: str


@pytest.fixture
def topic(kafka: Broker) -> str:
    """A fresh topic of two partitions."""
    name = f"oracle-{uuid.uuid4().hex[:8]}.events"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(30)
    return name


def test_a_log_written_with_transactions_is_judged(kafka: Broker, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    log = clean()
    batch = []
    for record in log.records:
        batch.append(record)
        if record.key in (b"\x00footer", b"\x00claim"):
            producer.begin_transaction()
            for one in batch:
                producer.produce(topic, one.value, one.key, partition=0)
            producer.commit_transaction(30)
            batch.clear()
    producer.begin_transaction()
    producer.produce(topic, b"never", b"seen", partition=0)
    producer.flush(30)
    assert open_transactions(kafka.bootstrap, topic) == [0]
    producer.abort_transaction(30)

    seen = read_raw(kafka.bootstrap, topic)
    everything = read_raw(kafka.bootstrap, topic, READ_UNCOMMITTED)
    assert [record.value for record in seen[0]] == [record.value for record in log.records]
    assert seen[1] == []
    assert open_transactions(kafka.bootstrap, topic) == []
    verdict = check(seen, everything)
    assert not verdict.anomalies, verdict.text()
    assert verdict.totals["aborted_records"] == 1

    raw = read_topic(kafka.bootstrap, topic)
    assert [record[:2] for record in raw[0]] == [(0, record.offset) for record in seen[0]]
    assert len(list(committed(raw[0]))) == verdict.totals["events"] + verdict.totals["claims"]
    assert isinstance(raw[0][0], Raw)
