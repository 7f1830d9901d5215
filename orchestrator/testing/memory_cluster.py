"""A Kafka in memory with the same transaction semantics: epochs, open transactions that hide what follows, markers
with offsets.

Faults are hooks: `on_commit` may say that a commit fails before or after it took effect, as a network may.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ConfigurationError
from ..log.partitioner import partition_of
from ..log.ports import Fenced, Out, Wire

MARKER = "marker"
OPEN = "open"
COMMITTED = "committed"
ABORTED = "aborted"


@dataclass
class Entry:
    """One offset of a partition."""

    wire: Wire
    state: str


@dataclass
class PartitionLog:
    """Entries from `start` on."""

    start: int = 0
    entries: list[Entry] = field(default_factory=list)
    open_since: dict[str, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The next offset."""
        return self.start + len(self.entries)

    @property
    def stable(self) -> int:
        """The last stable offset: nothing behind it is visible to read_committed."""
        return min([self.end, *self.open_since.values()])

    def read(self, offset: int, limit: int, committed: bool = True) -> tuple[list[Wire], int]:
        """Up to `limit` records from `offset`, and the offset to go on from."""
        upto = self.stable if committed else self.end
        found: list[Wire] = []
        at = max(offset, self.start)
        while at < upto and len(found) < limit:
            entry = self.entries[at - self.start]
            if entry.state == COMMITTED or (not committed and entry.state != MARKER):
                found.append(entry.wire)
            at += 1
        return found, at


@dataclass
class Topic:
    """A topic's identity and partitions."""

    name: str
    id: str
    partitions: list[PartitionLog]


@dataclass
class Transactional:
    """What the coordinator knows of a transactional id."""

    epoch: int = -1
    touched: list[tuple[PartitionLog, int, int]] = field(default_factory=list)


class MemoryCluster:
    """Topics and transactional ids. Thread-safe; `changed` is notified at every write."""

    def __init__(
        self,
        max_message_bytes: int = 1_048_576,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """`new_id` names the cluster and its topics: a simulation brings its own."""
        self.id = new_id()
        self._new_id = new_id
        self.changed = threading.Condition()
        self.topics: dict[str, Topic] = {}
        self.max_message_bytes = max_message_bytes
        self.wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        """The broker's clock: when a record was appended."""
        self.on_commit: Callable[[str], str] = lambda name: ""
        """Asked at every commit with the transactional id.

        "" works, "lost" fails before, "unknown" fails after it took effect.
        """
        self._transactional: dict[str, Transactional] = {}

    def create(self, name: str, partitions: int) -> Topic:
        """Make a topic, or return it."""
        with self.changed:
            if name not in self.topics:
                logs = [PartitionLog() for _ in range(partitions)]
                self.topics[name] = Topic(name, self._new_id(), logs)
            return self.topics[name]

    def grow(self, name: str, partitions: int) -> None:
        """Give a topic more partitions."""
        with self.changed:
            logs = self.topics[name].partitions
            logs += [PartitionLog() for _ in range(len(logs), partitions)]
            self.changed.notify_all()

    def delete(self, name: str) -> None:
        """Delete a topic; one of the same name made later is another one."""
        with self.changed:
            del self.topics[name]

    def partition(self, topic: str, number: int) -> PartitionLog:
        """One partition. Raises ConfigurationError when the topic does not exist."""
        try:
            return self.topics[topic].partitions[number]
        except (KeyError, IndexError):
            raise ConfigurationError(f"{topic}/{number} does not exist: run `orchestrator topics init`") from None

    # -- plain producers ---------------------------------------------------------------------------------------------

    def send(self, out: Out) -> str:
        """Append a record; "" or why it can never be."""
        with self.changed:
            topic = self.topics.get(out.topic)
            if topic is None:
                return f"topic {out.topic} does not exist"
            if len(out.value) > self.max_message_bytes:
                return f"{len(out.value)} bytes are more than the broker takes ({self.max_message_bytes})"
            number = out.partition if out.partition >= 0 else partition_of(out.key, len(topic.partitions))
            if number >= len(topic.partitions):
                return f"{out.topic} has no partition {number}"
            self._append(topic, number, out.key, out.value, COMMITTED, out.headers)
            self.changed.notify_all()
            return ""

    # -- transactions ------------------------------------------------------------------------------------------------

    def init(self, name: str) -> int:
        """A new epoch: older ones are fenced, what they left open is aborted."""
        with self.changed:
            known = self._transactional.setdefault(name, Transactional())
            self._end(name, known, ABORTED)
            known.epoch += 1
            self.changed.notify_all()
            return known.epoch

    def produce(self, name: str, epoch: int, topic: str, number: int, records: list[tuple[bytes, bytes]]) -> None:
        """Append records of an open transaction."""
        with self.changed:
            known = self._current(name, epoch)
            log = self.partition(topic, number)
            for key, value in records:
                if len(value) > self.max_message_bytes:
                    raise Fenced(f"{name}: a record of {len(value)} bytes")
                offset = self._append(self.topics[topic], number, key, value, OPEN)
                log.open_since.setdefault(name, offset)
                known.touched.append((log, number, offset))
            self.changed.notify_all()

    def commit(self, name: str, epoch: int) -> None:
        """End the open transaction. Raises Fenced when the epoch is old or a fault was injected."""
        verdict = self.on_commit(name)
        with self.changed:
            known = self._current(name, epoch)
            if verdict != "lost":
                self._end(name, known, COMMITTED)
                self.changed.notify_all()
        if verdict:
            raise Fenced(f"{name}: commit {verdict}")

    def _current(self, name: str, epoch: int) -> Transactional:
        known = self._transactional[name]
        if known.epoch != epoch:
            raise Fenced(f"{name}: epoch {epoch} is fenced by {known.epoch}")
        return known

    def _end(self, name: str, known: Transactional, state: str) -> None:
        logs = {id(log): (log, number) for log, number, _ in known.touched}
        for log, _, offset in known.touched:
            log.entries[offset - log.start].state = state
        known.touched.clear()
        for log, number in logs.values():
            log.open_since.pop(name, None)
            log.entries.append(Entry(Wire("", number, log.end, 0, b"", b""), MARKER))

    def _append(
        self,
        topic: Topic,
        number: int,
        key: bytes,
        value: bytes,
        state: str,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> int:
        log = topic.partitions[number]
        offset = log.end
        stamp = self.wall_ms()
        log.entries.append(Entry(Wire(topic.name, number, offset, stamp, key, value, headers), state))
        return offset
