"""Transactions that stay open: they hide from every `read_committed` reader whatever follows them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import LatestSpec, OffsetSpec

from ..errors import KafkaUnavailable
from .config import LogConfig
from .connecting import described, known, metadata
from .lanes import KafkaLanes
from .ports import Fenced, Wire
from .reader import read_partition
from .rights import on_topic, why
from .topics import ASK_S, admin

PATIENCE_S = 20.0
"""Longer than the transaction time-out (15 s): the broker should have ended it by itself."""
LEADERLESS = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
MARKED_S = 10.0
"""How long a broker may take to write the marker of an end that it has acknowledged."""


class Hanging(NamedTuple):
    """An open transaction of a partition: `first` is its first record's offset, `end` the log's.

    `by_lane`: it may be one of the partition's lanes that opened it.
    """

    topic: str
    partition: int
    first: int
    end: int
    open_s: float
    bootstrap: str
    by_lane: bool

    def sentence(self) -> str:
        """What it does, and what ends it."""
        return f"{self.what()}. {self.remedy()}"

    def what(self) -> str:
        """What it does."""
        return (
            f"{self.topic}/{self.partition}: a transaction open for {self.open_s:.0f} s hides offsets {self.first} to"
            f" {self.end - 1}"
        )

    def remedy(self) -> str:
        """What ends it."""
        lane = f" a lane's: orchestrator partition repair {self.partition} --abort-hung; any other:"
        return (
            "The broker ends it after its time-out if its coordinator knows it; if not:"
            f"{lane if self.by_lane else ''} {self.command()}"
        )

    def command(self) -> str:
        """What ends it by Kafka's own tool, whoever opened it."""
        return (
            f"kafka-transactions.sh --bootstrap-server {self.bootstrap} abort --topic {self.topic}"
            f" --partition {self.partition} --start-offset {self.first}"
        )


def hanging(
    config: LogConfig, topic: str, older_than_s: float = PATIENCE_S, numbers: Iterable[int] | None = None
) -> list[Hanging]:
    """Partitions of a topic (of `numbers` only) behind an open transaction whose first record is older than so.

    Raises KafkaUnavailable.
    """
    client = admin(config)
    there = described(client, config.bootstrap, [topic]).get(topic)
    places = [
        TopicPartition(topic, one.id)
        for one in (there.partitions if there else ())
        if numbers is None or one.id in numbers
    ]
    stable = _ends(config, client, places, IsolationLevel.READ_COMMITTED)
    ends = _ends(config, client, places, IsolationLevel.READ_UNCOMMITTED)
    found = []
    for place in places:
        first, end = stable[place], ends[place]
        if first < end:
            record = _record(config, place, first)
            open_s = time.time() - record.timestamp_ms / 1000 if record else 0.0
            if open_s > older_than_s:
                by_lanes = topic == config.topic("events")
                found.append(Hanging(topic, place.partition, first, end, open_s, config.bootstrap, by_lanes))
    return found


def hanging_anywhere(config: LogConfig) -> list[Hanging]:
    """Of the topics that engines read. Raises KafkaUnavailable."""
    return [one for topic in ("events", "commands") for one in hanging(config, config.topic(topic))]


def outlasting(config: LogConfig, partition: int) -> Hanging | None:
    """What hides the end of a partition of events, and is not ended by its time-out; the wait is no longer than that.

    Raises KafkaUnavailable.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = hanging(config, config.topic("events"), 0.0, [partition])
        if not found or found[0].open_s > PATIENCE_S:
            return found[0] if found else None
        if time.monotonic() > deadline:
            # Never the same one: somebody writes.
            return None
        time.sleep(0.5)


def abort_lanes(config: LogConfig, found: Hanging) -> list[Hanging]:
    """End what the lanes of a partition of events left open, and make it void; what is still open then.

    `init_transactions` alone ends only what its coordinator knows of. A transaction that the coordinator has forgotten,
    or ended long ago by a marker that was lost, ends with the next marker of the same producer in the partition: each
    lane begins a transaction there, with the first of the records that hang once more, and is initialised again, which
    aborts it. The engine must be stopped: a lane that is alive is fenced, and claims again. Raises KafkaUnavailable.
    """
    place = TopicPartition(found.topic, found.partition)
    record = _record(config, place, found.first)
    if record is not None:
        for name in config.lane_names(found.partition):
            lane = KafkaLanes(config, found.partition)
            lane.names = (name,)
            try:
                lane.init()
                lane.begin([(record.key, record.value)])
                lane.init()
            except Fenced as error:
                raise KafkaUnavailable(f"{found.topic}/{found.partition}: {error}") from error
            finally:
                lane.close()
    return _left(config, place)


def _left(config: LogConfig, place: TopicPartition) -> list[Hanging]:
    """What is open once the markers are written; nobody else writes meanwhile."""
    deadline = time.monotonic() + MARKED_S
    while True:
        found = hanging(config, place.topic, 0.0, [place.partition])
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _ends(
    config: LogConfig, client: AdminClient, places: list[TopicPartition], level: IsolationLevel
) -> dict[TopicPartition, int]:
    """Asked again while a topic that was just made has no leader that knows of it."""
    asked: dict[TopicPartition, OffsetSpec] = {place: LatestSpec() for place in places}  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + MARKED_S
    while True:
        try:
            futures = client.list_offsets(asked, isolation_level=level, request_timeout=ASK_S)
            return {place: known(future.result().offset) for place, future in futures.items()}
        except KafkaException as error:
            if error.args[0].code() not in LEADERLESS or time.monotonic() > deadline:
                said = why(config, error.args[0], on_topic("Describe", places[0].topic))
                raise KafkaUnavailable(f"the ends of a topic: {said}") from error
        metadata(client, config.bootstrap, places[0].topic)
        time.sleep(0.05)


def _record(config: LogConfig, place: TopicPartition, offset: int) -> Wire | None:
    """The record at an offset, visible or not; None if there is none (any more)."""
    for wires in read_partition(config, place.topic, place.partition, offset, isolation="read_uncommitted"):
        return wires[0]
    return None
