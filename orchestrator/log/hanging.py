"""Transactions that stay open: they hide from every `read_committed` reader whatever follows them."""

from __future__ import annotations

import time
from typing import NamedTuple

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import LatestSpec, OffsetSpec

from .config import LogConfig
from .reader import read_partition
from .topics import ASK_S, admin

PATIENCE_S = 20.0
"""Longer than the transaction time-out (15 s): the broker should have ended it by itself."""


class Hanging(NamedTuple):
    """An open transaction of a partition: `first` is its first record's offset, `end` the log's."""

    topic: str
    partition: int
    first: int
    end: int
    open_s: float

    def sentence(self) -> str:
        """What it does, and what ends it."""
        return (
            f"{self.topic}/{self.partition}: a transaction open for {self.open_s:.0f} s hides offsets {self.first} to"
            f" {self.end - 1}. The broker ends it after its time-out if its coordinator knows it; if not:"
            f" kafka-transactions.sh abort --topic {self.topic} --partition {self.partition}"
            f" --start-offset {self.first}"
        )


def hanging(config: LogConfig, topic: str, older_than_s: float = PATIENCE_S) -> list[Hanging]:
    """Partitions of a topic behind an open transaction whose first record is older than `older_than_s`.

    Raises KafkaUnavailable.
    """
    client = admin(config)
    # Asked about by name, a topic that does not exist is made or reported; among all, it is just not there.
    metadata = client.list_topics(timeout=ASK_S).topics.get(topic)
    places = [TopicPartition(topic, number) for number in metadata.partitions] if metadata else []
    stable = _ends(client, places, IsolationLevel.READ_COMMITTED)
    ends = _ends(client, places, IsolationLevel.READ_UNCOMMITTED)
    found = []
    for place in places:
        first, end = stable[place], ends[place]
        if first < end:
            open_s = _age_s(config, place, first)
            if open_s > older_than_s:
                found.append(Hanging(topic, place.partition, first, end, open_s))
    return found


def _ends(client: AdminClient, places: list[TopicPartition], level: IsolationLevel) -> dict[TopicPartition, int]:
    asked: dict[TopicPartition, OffsetSpec] = {place: LatestSpec() for place in places}  # type: ignore[no-untyped-call]
    futures = client.list_offsets(asked, isolation_level=level, request_timeout=ASK_S)
    return {place: future.result().offset for place, future in futures.items()}


def _age_s(config: LogConfig, place: TopicPartition, offset: int) -> float:
    """How long ago the broker appended a record; 0 if it ended meanwhile."""
    for wires in read_partition(config, place.topic, place.partition, offset, isolation="read_uncommitted"):
        return time.time() - wires[0].timestamp_ms / 1000
    return 0.0
