"""What a growth of the partition count needs from the cluster: more partitions, and a look at the log's beginning."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import EarliestSpec, LatestSpec, OffsetSpec
from confluent_kafka.cimpl import NewPartitions

from ..errors import ConfigurationError, KafkaUnavailable
from .config import LogConfig
from .connecting import described, known, metadata
from .ports import Wire
from .reader import read_partition
from .rights import check_topics_allow, lacks, on_topic, refused, why
from .topics import ASK_S, admin, led

FIXED = ("dead-letters", "anchors")
"""Topics that do not follow the partition count of commands."""


def counts(config: LogConfig, client: AdminClient | None = None) -> dict[str, int]:
    """Partitions of the application's topics that follow the count of commands, by name after `<app>.`.

    Raises ConfigurationError when commands or events are missing, KafkaUnavailable.
    """
    client = client or admin(config)
    check_topics_allow(config, client, dict.fromkeys(("commands", "events", "replies"), ("Describe",)))
    prefix = config.topic("")
    found = {
        name.removeprefix(prefix): len(topic.partitions)
        for name, topic in metadata(client, config.bootstrap).topics.items()
        if name.startswith(prefix) and topic.error is None
    }
    if missing := {"commands", "events"} - found.keys():
        raise ConfigurationError(
            f"{config.topic(min(missing))} does not exist. Create the application's topics: orchestrator topics init"
        )
    followers = {"commands", "events", "replies"}
    return {name: n for name, n in found.items() if name in followers or name.startswith("tasks.")}


def grow_topics(config: LogConfig, partitions: int) -> dict[str, int]:
    """Give every topic that has fewer `partitions` partitions, commands last; returns the counts of before.

    Harmless to run again. Raises ConfigurationError when the cluster refuses, KafkaUnavailable.
    """
    client = admin(config)
    before = counts(config, client)
    smaller = sorted((name for name, n in before.items() if n < partitions), key=lambda name: name == "commands")
    for name in smaller:
        full = config.topic(name)
        try:
            client.create_partitions([NewPartitions(full, partitions)], operation_timeout=ASK_S)[full].result()
        except KafkaException as error:
            if refused(error.args[0]):
                raise KafkaUnavailable(f"{lacks(config, on_topic('Alter', full))}, and run it again") from error
            raise ConfigurationError(
                f"{full} cannot get {partitions} partitions: {error.args[0].str()}. Nothing is lost: run it again"
            ) from error
    _wait_for(client, config, dict.fromkeys(smaller, partitions))
    return before


def _wait_for(client: AdminClient, config: LogConfig, wanted: Mapping[str, int]) -> None:
    """New partitions are known, and led, a moment later."""
    deadline = time.monotonic() + ASK_S
    while True:
        topics = described(client, config.bootstrap, [config.topic(name) for name in wanted])
        waiting = [
            name for name, count in wanted.items() if sum(map(led, topics[config.topic(name)].partitions)) < count
        ]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise ConfigurationError(f"{', '.join(waiting)}: new partitions without a leader for {ASK_S:.0f} s")
        client.poll(0.05)


def empty_partitions(config: LogConfig, client: AdminClient | None = None) -> list[int]:
    """Events partitions in which nothing was ever written."""
    return [number for number, (_, end) in _bounds(config, client or admin(config)).items() if end == 0]


def first_event(config: LogConfig, client: AdminClient) -> Wire | None:
    """The first record of the first events partition that holds one. Raises KafkaUnavailable."""
    topic = config.topic("events")
    for number, (start, end) in sorted(_bounds(config, client).items()):
        if end > start:
            for wires in read_partition(config, topic, number, start):
                return wires[0]
    return None


def _bounds(config: LogConfig, client: AdminClient) -> dict[int, tuple[int, int]]:
    topic = config.topic("events")
    try:
        numbers = metadata(client, config.bootstrap, topic).topics[topic].partitions
        ends = []
        for spec in (EarliestSpec(), LatestSpec()):  # type: ignore[no-untyped-call]
            asked: dict[TopicPartition, OffsetSpec] = {TopicPartition(topic, number): spec for number in numbers}
            futures = client.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ASK_S)
            ends.append({place.partition: known(future.result().offset) for place, future in futures.items()})
    except KafkaException as error:
        raise KafkaUnavailable(f"{topic}: {why(config, error.args[0], on_topic('Describe', topic))}") from error
    return {number: (ends[0][number], ends[1][number]) for number in numbers}
