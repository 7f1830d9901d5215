"""A transaction that its coordinator does not know: what ends it, and as what, by the id that opened it."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from orchestrator.log.hanging import abort_lanes, hanging
from tests.docs.hung import forgotten
from tests.engine.rig import until
from tests.log.world import WAIT_S, KafkaWorld
from tests.oracle.raw import open_transactions, read_raw

pytestmark = pytest.mark.broker


@pytest.fixture
def topic(kafka_world: KafkaWorld) -> str:
    """Events, whose partition 0 is hidden by a transaction of the second lane."""
    name = f"{kafka_world.app}.events"
    forgotten(kafka_world.bootstrap, name, 0, kafka_world.config().lane_names(0)[1])
    return name


def test_a_lane_ends_it_as_void(kafka_world: KafkaWorld, topic: str) -> None:
    (found,) = hanging(kafka_world.config(), topic)
    assert abort_lanes(kafka_world.config(), found) == []
    assert read_raw(kafka_world.bootstrap, topic)[0] == []


def test_its_next_commit_takes_it_along(kafka_world: KafkaWorld, topic: str) -> None:
    """Kafka's markers end all that a producer has open in a partition: why nothing is committed to get rid of it."""
    producer = Producer(
        {"bootstrap.servers": kafka_world.bootstrap, "transactional.id": kafka_world.config().lane_names(0)[1]}
    )
    producer.init_transactions(WAIT_S)
    assert open_transactions(kafka_world.bootstrap, topic) == [0], "to initialise the id ends nothing"
    producer.begin_transaction()
    producer.produce(topic, b"new", b"k", 0)
    producer.commit_transaction(WAIT_S)
    until(lambda: not open_transactions(kafka_world.bootstrap, topic))
    assert [record.value for record in read_raw(kafka_world.bootstrap, topic)[0]] == [b"forgotten", b"new"]
