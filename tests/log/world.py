"""One cluster, in memory or real: logs of several processes, and a look from outside."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from orchestrator.log.config import LogConfig
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.log.ports import Log, Out, Wire
from orchestrator.log.reader import read_partition
from orchestrator.log.topics import init_topics
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, create_topics

PARTITIONS = 4
WAIT_S = 30


class World(Protocol):
    """A cluster with one application's topics."""

    app: str

    def log(self, lanes: int = 2) -> Log:
        """Another process's log."""

    def visible(self, name: str, partition: int) -> list[Wire]:
        """What a read_committed reader finds in a topic of the application."""

    def transact(self, name: str, partition: int, *values: bytes) -> None:
        """Append records in a transaction of some other producer: its marker takes an offset behind them."""

    def cut(self, name: str, partition: int, start: int) -> None:
        """Delete what lies before `start`."""

    def close(self) -> None:
        """End what was opened."""


class MemoryWorld:
    """In memory."""

    def __init__(self) -> None:
        self.app = "m"
        self._cluster = MemoryCluster()
        self._group = MemoryGroup(PARTITIONS)
        self._logs: list[MemoryLog] = []
        create_topics(self._cluster, self.app, PARTITIONS)

    def log(self, lanes: int = 2) -> Log:
        self._logs.append(MemoryLog(self._cluster, self.app, self._group, lanes))
        return self._logs[-1]

    def visible(self, name: str, partition: int) -> list[Wire]:
        with self._cluster.changed:
            return self._cluster.partition(f"{self.app}.{name}", partition).read(0, 10_000)[0]

    def transact(self, name: str, partition: int, *values: bytes) -> None:
        epoch = self._cluster.init("foreign")
        self._cluster.produce("foreign", epoch, f"{self.app}.{name}", partition, [(b"k", value) for value in values])
        self._cluster.commit("foreign", epoch)

    def cut(self, name: str, partition: int, start: int) -> None:
        with self._cluster.changed:
            log = self._cluster.partition(f"{self.app}.{name}", partition)
            del log.entries[: start - log.start]
            log.start = start

    def close(self) -> None:
        for log in self._logs:
            log.close()


class KafkaWorld:
    """A real broker; the application's name is new."""

    def __init__(self, bootstrap: str, protocol: str = "consumer") -> None:
        self.app = f"log-{uuid.uuid4().hex[:8]}"
        self.bootstrap = bootstrap
        self._protocol = protocol
        self._logs: list[KafkaLog] = []
        init_topics(self.config(), PARTITIONS)

    def config(self, lanes: int = 2, assignment: tuple[int, ...] = ()) -> LogConfig:
        """How a process reaches the log."""
        return LogConfig(self.app, self.bootstrap, lanes=lanes, group_protocol=self._protocol, assignment=assignment)

    def log(self, lanes: int = 2) -> Log:
        self._logs.append(KafkaLog(self.config(lanes)))
        return self._logs[-1]

    def visible(self, name: str, partition: int) -> list[Wire]:
        slices = read_partition(self.config(), f"{self.app}.{name}", partition)
        return [wire for found in slices for wire in found]

    def transact(self, name: str, partition: int, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": f"{self.app}.foreign"})
        producer.init_transactions(WAIT_S)
        producer.begin_transaction()
        for value in values:
            producer.produce(f"{self.app}.{name}", value, b"k", partition)
        producer.commit_transaction(WAIT_S)

    def cut(self, name: str, partition: int, start: int) -> None:
        place = TopicPartition(f"{self.app}.{name}", partition, start)
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.delete_records([place])[place].result(WAIT_S)

    def close(self) -> None:
        for log in self._logs:
            log.close()


class Sink:
    """Collects what a reader delivers."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.lost: list[int] = []
        self.changed = threading.Condition()

    def put(self, wires: Sequence[Wire]) -> None:
        """A reader's sink."""
        with self.changed:
            self.wires += wires
            self.changed.notify_all()

    def put_lost(self, start: int) -> None:
        """An input reader's `lost`."""
        with self.changed:
            self.lost.append(start)
            self.changed.notify_all()

    def wait(self, met: Callable[[Sink], bool]) -> None:
        """Until something holds; fails, showing what is there, when it never does."""
        with self.changed:
            assert self.changed.wait_for(lambda: met(self), WAIT_S), f"only {self.values()}, lost {self.lost}"

    def wait_values(self, *values: bytes) -> None:
        """Until exactly these values have come."""
        self.wait(lambda sink: len(sink.wires) >= len(values))
        assert self.values() == list(values)

    def values(self) -> list[bytes]:
        """Values in the order of delivery."""
        return [wire.value for wire in self.wires]


class Receipts:
    """What an outgoing producer said of each record."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._changed = threading.Condition()

    def done(self, name: str) -> Callable[[str], None]:
        """The callback of one record."""

        def told(reason: str) -> None:
            with self._changed:
                self._said[name] = reason
                self._changed.notify_all()

        return told

    def of(self, name: str) -> str:
        """The reason, "" once acknowledged; waits for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: name in self._said, WAIT_S), f"nothing was said of {name}"
            return self._said[name]


def send(log: Log, *records: Out) -> None:
    """Send records and wait until each is acknowledged."""
    receipts = Receipts()
    for at, record in enumerate(records):
        log.outgoing().send(record, receipts.done(str(at)))
    assert [receipts.of(str(at)) for at in range(len(records))] == [""] * len(records)
