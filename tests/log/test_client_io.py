"""A caller goes on hearing answers, whatever becomes of the log that they come on."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from orchestrator.devkafka import DevKafka
from orchestrator.log.client_io import ClientIo
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics

pytestmark = pytest.mark.broker

WAIT_S = 30.0
BEFORE = 20


@pytest.fixture
def config(kafka: DevKafka) -> LogConfig:
    found = LogConfig(f"caller-{uuid.uuid4().hex[:8]}", kafka.bootstrap)
    init_topics(found, 1)
    return found


def answer(config: LogConfig, to: ClientIo, words: list[str]) -> None:
    """What an engine writes."""
    producer = Producer({"bootstrap.servers": config.bootstrap})
    for word in words:
        producer.produce(to.reply_topic, word, partition=to.reply_partition)
    assert producer.flush(WAIT_S) == 0


def until_heard(heard: list[bytes], word: str, config: LogConfig, to: ClientIo) -> None:
    """Sent again and again, as a caller's command is: one that came while the reader was astray is lost to it."""
    deadline = time.monotonic() + WAIT_S
    while word.encode() not in heard:
        assert time.monotonic() < deadline, (word, heard)
        answer(config, to, [word])
        time.sleep(0.5)


def test_answers_are_heard_from_a_log_that_was_made_anew(config: LogConfig) -> None:
    """Its reader's place is beyond the new end: it heard nothing any more, and said nothing."""
    heard: list[bytes] = []
    caller = ClientIo(config, heard.append)
    try:
        answer(config, caller, [f"before {number}" for number in range(BEFORE)])
        until_heard(heard, "before", config, caller)
        admin = AdminClient({"bootstrap.servers": config.bootstrap})
        admin.delete_topics([caller.reply_topic])[caller.reply_topic].result(WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while caller.reply_topic in admin.list_topics(timeout=WAIT_S).topics:
            assert time.monotonic() < deadline
        init_topics(config, 1)
        until_heard(heard, "after", config, caller)
    finally:
        caller.close()
