"""A new producer whose first request to a partition is refused, while its second is on its way.

A broker that knows nothing of a producer takes any sequence number from it. It takes the second request; the first,
sent again, it calls a duplicate, and librdkafka tells its caller that it was written. So a partition that is about to
get its leader (a new topic, an election) takes a record away for good, and nobody is told.
"""

from __future__ import annotations

import threading
import time

import pytest
from confluent_kafka import Producer

from orchestrator.log.config import LogConfig
from orchestrator.log.lanes import KafkaLanes
from orchestrator.log.outbox import KafkaOutgoing
from orchestrator.log.ports import Out
from orchestrator.log.topics import init_topics
from tests.faults.kafka_proxy import PRODUCE, Rule
from tests.faults.proxied import Proxied

pytestmark = pytest.mark.broker

NOT_LEADER = 6
RECORDS = 300
WAIT_S = 30.0
BEHIND_S = 3.0


def refused_first(stage: Proxied) -> Rule:
    """The next Produce request, whoever sends it, hears so once another one of its connection was passed on."""
    return stage.proxy.add(Rule(PRODUCE, "error_behind", delay_s=BEHIND_S, code=NOT_LEADER))


def until_on_its_way(rule: Rule) -> None:
    """Wait until the request that will be refused has come by."""
    deadline = time.monotonic() + WAIT_S
    while not rule.seen and time.monotonic() < deadline:
        time.sleep(0.01)
    assert rule.seen == 1


def test_a_producer_as_it_comes_loses_what_it_says_it_wrote(stage: Proxied) -> None:
    """What our producers are told to avoid. If this fails, librdkafka has learnt better: ADR 0042 says what then."""
    topic = stage.topic()
    told: list[object] = []
    rule = refused_first(stage)
    made = Producer({"bootstrap.servers": stage.proxied, "enable.idempotence": True, "linger.ms": 0})
    made.produce(topic, "first", partition=0, on_delivery=lambda error, _: told.append(error))
    until_on_its_way(rule)
    made.produce(topic, "second", partition=0, on_delivery=lambda error, _: told.append(error))
    assert made.flush(WAIT_S) == 0
    assert told == [None, None]
    assert stage.visible(topic) == ["second"]


def test_what_an_engine_sends_is_written_or_not_said_to_be(stage: Proxied) -> None:
    app = stage.name("a")
    init_topics(LogConfig(app, stage.direct), 1)
    outgoing = KafkaOutgoing(LogConfig(app, stage.proxied))
    rule, told, all_told = refused_first(stage), dict[int, str](), threading.Event()

    def done(number: int, problem: str) -> None:
        told[number] = problem
        if len(told) == RECORDS:
            all_told.set()

    for number in range(RECORDS):
        record = Out(f"{app}.commands", 0, b"k", str(number).encode())
        outgoing.send(record, lambda problem, number=number: done(number, problem))
        if number == 0:
            until_on_its_way(rule)
    assert all_told.wait(WAIT_S)
    outgoing.close()
    assert rule.fired == 1
    assert set(told.values()) == {""}
    assert stage.visible(f"{app}.commands") == [str(number) for number in range(RECORDS)]


def test_a_batch_of_the_log_is_whole(stage: Proxied) -> None:
    app = stage.name("a")
    init_topics(LogConfig(app, stage.direct), 1)
    lanes = KafkaLanes(LogConfig(app, stage.proxied), 0)
    lanes.init()
    rule = refused_first(stage)
    lanes.begin([(b"k", bytes([65 + number % 26]) * 10_000) for number in range(RECORDS)])
    lanes.commit()
    lanes.close()
    assert rule.fired == 1
    assert stage.visible(f"{app}.events") == [chr(65 + number % 26) * 10_000 for number in range(RECORDS)]
