"""Reading a partition from one offset to its end: audits, tools, listings. Bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from ..errors import KafkaUnavailable
from .config import LogConfig
from .connecting import connected, described
from .following import wire
from .group_offsets import GroupOffsets
from .ports import Wire
from .rights import check_topics_allow, on_topic, refused, why

SLICE = 1_000
QUIET_S = 30.0
LOOK_S = 2.0
"""How long nothing comes before it is looked whether anything may."""


def read_partition(
    config: LogConfig,
    topic: str,
    partition: int,
    from_offset: int = 0,
    isolation: str = "read_committed",
    most: int = SLICE,
) -> Iterator[list[Wire]]:
    """Slices of `most` records until the end that was there at the start.

    Raises KafkaUnavailable when nothing comes.
    """
    special = {"isolation_level": isolation, "enable_partition_eof": True, "auto_offset_reset": "earliest"}
    consumer = Consumer(config.consumer(**special))
    try:
        consumer.assign([TopicPartition(topic, partition, from_offset)])
        while True:
            first = consumer.poll(LOOK_S)
            if first is None:
                _check_seen(config, consumer, topic)
                first = consumer.poll(QUIET_S)
            if first is None:
                raise KafkaUnavailable(f"{topic}/{partition}: nothing could be read for {QUIET_S:.0f} s")
            found: list[Wire] = []
            ended = False
            for message in (first, *consumer.consume(most, 0)):
                error = message.error()
                if error is None:
                    found.append(wire(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended = True
                elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise KafkaUnavailable(why(config, error, on_topic("Read", topic)))
                elif error.fatal() or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise KafkaUnavailable(f"{topic}/{partition}: {error.str()}")
            if found:
                yield found
            if ended:
                return
    finally:
        consumer.close()


def _check_seen(config: LogConfig, consumer: Consumer, topic: str) -> None:
    """A consumer is silent about a topic that it may not see. Raises KafkaUnavailable."""
    with contextlib.suppress(KafkaException):
        problem = consumer.list_topics(topic, timeout=LOOK_S).topics[topic].error
        if problem is not None and refused(problem):
            raise KafkaUnavailable(why(config, problem, on_topic("Read", topic)))


def ends(config: LogConfig, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The offset behind the last record of each partition. Raises KafkaUnavailable."""
    consumer = Consumer(config.consumer())
    try:
        return {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), QUIET_S)[1] for number in partitions
        }
    except KafkaException as error:
        raise KafkaUnavailable(f"{topic}: {why(config, error.args[0], on_topic('Describe', topic))}") from error
    finally:
        consumer.close()


def group_notes(config: LogConfig, partitions: int) -> dict[int, str]:
    """What the engines noted beside their group offsets, by partition: the newest proven batch and its footer's hash.

    Raises KafkaUnavailable, also when this login may not see the group.
    """
    group = GroupOffsets(config)
    try:
        return group.notes(range(partitions), QUIET_S)
    finally:
        group.close()


def topic_exists(config: LogConfig, topic: str) -> bool:
    """Whether the cluster has the topic now. Raises KafkaUnavailable when this login may not read it."""
    client = connected(AdminClient(config.client()), config.topic("events"))
    check_topics_allow(config, client, {topic.removeprefix(config.topic("")): ("Read",)})
    return topic in described(client, config.bootstrap, [topic])
