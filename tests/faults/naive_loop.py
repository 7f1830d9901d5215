"""The transactional loop of librdkafka's manual, and what a delayed EndTxn makes of it. Needs confluent-kafka alone.

Beside `kafka_proxy.py`, which delays the loop's first EndTxn:

  python kafka_proxy.py --broker 127.0.0.1:19094 --listen 19095 --fault EndTxn:late:until=Produce
  python naive_loop.py --bootstrap 127.0.0.1:19095 --direct 127.0.0.1:19092 --first abort

`--first abort`: batch 1 is given up; batch 2 writes 2a, and then 2b to another topic. `--first commit`: batch 1 is
committed; batch 2 writes 2a, and then 2b to the same topic. Between the two records the loop waits until the broker
has ended the transaction, which nobody asked for. The last line says in JSON what `commit_transaction` returned for
batch 2, which records a read_committed reader sees, and which are lost or half of a refused batch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
import uuid
from collections.abc import Sequence

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

WAIT_S = 30
SETTLE_S = 10.0


class NaiveLoop:
    """The loop of librdkafka's manual: abort what must be aborted, believe what commit_transaction says."""

    def __init__(self, bootstrap: str, transactional_id: str = "") -> None:
        settings = {
            "bootstrap.servers": bootstrap,
            "transactional.id": transactional_id or uuid.uuid4().hex,
            "linger.ms": 0,
            "transaction.timeout.ms": 30_000,
            "enable.metrics.push": False,
        }
        self._producer = Producer(settings)
        self._producer.init_transactions(WAIT_S)

    def open(self, records: list[tuple[str, str]]) -> None:
        """Begin a batch and produce these (topic, value) records; return when the broker has them."""
        self._producer.begin_transaction()
        self.add(records)

    def add(self, records: list[tuple[str, str]]) -> None:
        """Produce more records in the open batch; return when the broker has answered for each."""
        for topic, value in records:
            self._producer.produce(topic, value)
        assert self._producer.flush(WAIT_S) == 0

    def offsets(self, consumer: Consumer, positions: list[TopicPartition]) -> None:
        """Add a group's offsets to the open batch."""
        self._producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), WAIT_S)

    def commit(self) -> bool:
        """Commit the open batch; whether the loop takes it as done."""
        try:
            self._producer.commit_transaction(WAIT_S)
        except KafkaException as refused:
            if refused.args[0].txn_requires_abort():
                with contextlib.suppress(KafkaException):  # fatal: the manual says discard, which `close` does
                    self._producer.abort_transaction(WAIT_S)
            return False
        return True

    def abort(self) -> None:
        """Give the open batch up."""
        self._producer.abort_transaction(WAIT_S)

    def close(self) -> None:
        """Stop."""
        with contextlib.suppress(KafkaException):  # a producer with a fatal error says it again here
            self._producer.close(WAIT_S)


def make_topics(bootstrap: str, count: int) -> list[str]:
    """New topics of one partition."""
    names = [f"hole-{uuid.uuid4().hex[:8]}" for _ in range(count)]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        made.result(WAIT_S)
    return names


def visible(bootstrap: str, topic: str) -> list[str]:
    """Every record that a read_committed reader sees, to the stable end at the time of the call."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    found: list[str] = []
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while (message := consumer.poll(WAIT_S)) is not None:
            if message.error():
                return found
            found.append(message.value().decode())
    finally:
        consumer.close()
    raise AssertionError(f"no end of {topic} within {WAIT_S} s")


def await_end(bootstrap: str, topic: str) -> bool:
    """Whether the open transaction of a topic is ended by somebody within some seconds."""
    admin, deadline = AdminClient({"bootstrap.servers": bootstrap}), time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        ends = []
        for level in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED):
            asked = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()}, isolation_level=level)
            ends += [one.result(WAIT_S).offset for one in asked.values()]
        if ends[0] == ends[1]:
            return True
    return False


def play(bootstrap: str, direct: str, first: str) -> dict[str, object]:
    """Two batches, the first of which is aborted or committed; what the second one came to."""
    one, other = make_topics(direct, 2)
    loop = NaiveLoop(bootstrap)
    try:
        loop.open([(one, "1")])
        if first == "abort":
            loop.abort()
        else:
            assert loop.commit(), "the first batch was refused"
        loop.open([(one, "2a")])
        ended = await_end(direct, one)
        loop.add([(other if first == "abort" else one, "2b")])
        committed = loop.commit()
    finally:
        loop.close()
    seen = [value for value in visible(direct, one) + visible(direct, other) if value != "1"]
    return {
        "ended_by_nobody": ended,
        "commit_returned": "OK" if committed else "refused",
        "visible": seen,
        "lost": [value for value in ("2a", "2b") if committed and value not in seen],
        "half_visible": [] if committed else seen,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="the broker, through the proxy")
    parser.add_argument("--direct", required=True, help="the broker, past the proxy")
    parser.add_argument("--first", choices=("abort", "commit"), default="abort", help="how batch 1 ends")
    options = parser.parse_args(arguments)
    print(json.dumps(play(options.bootstrap, options.direct, options.first)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
