"""Raw records of topics, read with a bare consumer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec


class RawRecord(NamedTuple):
    """One record as it stands on a topic; `timestamp_ms` is the broker's (LogAppendTime)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


ByPartition = Mapping[int, Sequence[RawRecord]]

READ_COMMITTED = "read_committed"
READ_UNCOMMITTED = "read_uncommitted"


ASKED_AGAIN_S = 20.0
ELECTED = {KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.FENCED_LEADER_EPOCH,
           KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.OFFSET_NOT_AVAILABLE}  # fmt: skip


def ends(bootstrap: str, topic: str, isolation: str) -> dict[int, tuple[int, int]]:
    """(first, end) of every partition as `isolation` sees them: the end of read_committed is the last stable offset.

    A leader that was just elected is asked again.
    """
    deadline = time.monotonic() + ASKED_AGAIN_S
    while True:
        try:
            return _ends(bootstrap, topic, isolation)
        except KafkaException as error:
            if error.args[0].code() not in ELECTED or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _ends(bootstrap: str, topic: str, isolation: str) -> dict[int, tuple[int, int]]:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    meta = admin.list_topics(topic, timeout=20).topics[topic]
    if meta.error is not None:
        raise KafkaException(meta.error)
    level = IsolationLevel.READ_COMMITTED if isolation == READ_COMMITTED else IsolationLevel.READ_UNCOMMITTED

    def offsets(spec: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(topic, number): spec for number in meta.partitions}
        answers = admin.list_offsets(asked, isolation_level=level, request_timeout=20)
        return {place.partition: future.result().offset for place, future in answers.items()}

    first, last = offsets(OffsetSpec.earliest()), offsets(OffsetSpec.latest())
    return {number: (first[number], last[number]) for number in first}


class End(NamedTuple):
    """Where a partition ends: what read_committed reaches, and what lies on the log."""

    stable: int
    end: int


def log_ends(bootstrap: str, topic: str) -> dict[int, End]:
    """The ends of every partition. The last one is asked first: the log may grow meanwhile."""
    last = ends(bootstrap, topic, READ_UNCOMMITTED)
    return {n: End(stable, last[n][1]) for n, (_, stable) in ends(bootstrap, topic, READ_COMMITTED).items()}


def open_transactions(bootstrap: str, topic: str) -> list[int]:
    """Partitions whose last stable offset is below their end (I7): a transaction is still open there."""
    return sorted(n for n, (stable, end) in log_ends(bootstrap, topic).items() if stable < end)


def read_raw(
    bootstrap: str, topic: str, isolation: str = READ_COMMITTED, timeout_s: float = 60.0
) -> dict[int, list[RawRecord]]:
    """Every record of a topic up to its end as of now, by partition. Raises TimeoutError if the end is not reached."""
    bounds = ends(bootstrap, topic, isolation)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "oracle",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    found: dict[int, list[RawRecord]] = defaultdict(list)
    missing = {number for number, (first, end) in bounds.items() if first < end}
    deadline = time.monotonic() + timeout_s
    try:
        consumer.assign([TopicPartition(topic, number, bounds[number][0]) for number in sorted(missing)])
        while missing:
            for message in consumer.consume(5_000, 0.2):
                if message.error() is not None and message.error().name() == "_PARTITION_EOF":
                    # Transaction markers are never delivered: only this event tells that they were passed.
                    missing -= {message.partition()} if message.offset() >= bounds[message.partition()][1] else set()
                    continue
                if message.error() is not None:
                    raise KafkaException(message.error())
                found[message.partition()].append(_record(message))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: partitions {sorted(missing)} did not reach their ends {bounds}")
    finally:
        consumer.close()
    return {number: [r for r in found[number] if r.offset < bounds[number][1]] for number in bounds}


def _record(m: Any) -> RawRecord:
    return RawRecord(
        m.topic(),
        m.partition(),
        m.offset(),
        m.timestamp()[1],
        m.key() or b"",
        m.value() or b"",
        tuple(m.headers() or ()),
    )
