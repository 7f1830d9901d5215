"""The ports of the log over a cluster in memory: what `orchestrator.log` is over Kafka."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

from ..failpoints import failpoint, failpoint_beside
from ..log.ports import Fenced, Out, TopicIds, Wire
from .memory_cluster import MemoryCluster

SLICE = 500


class MemoryLanes:
    """Transactional producers of one partition."""

    def __init__(self, cluster: MemoryCluster, app: str, partition: int, count: int = 2) -> None:
        self.names = tuple(f"{app}.{partition}.{chr(ord('a') + lane)}" for lane in range(count))
        self._cluster = cluster
        self._topic = f"{app}.events"
        self._partition = partition
        self._epochs: dict[str, int] = {}
        self._next = itertools.cycle(self.names)
        self._lane = ""

    def init(self, extra: Sequence[str] = ()) -> None:
        for name in (*self.names, *extra):
            self._epochs[name] = self._cluster.init(name)
            if name == self.names[0]:
                failpoint("K21")
        self._next = itertools.cycle(self.names)

    def init_last(self) -> None:
        self._epochs[self._lane] = self._cluster.init(self._lane)

    def begin(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        self._lane = next(self._next)
        failpoint("K3")
        self._cluster.produce(self._lane, self._epoch(), self._topic, self._partition, list(records[:1]))
        if records[1:]:
            failpoint("K6")
            self._cluster.produce(self._lane, self._epoch(), self._topic, self._partition, list(records[1:-1]))
            failpoint("K8")
            self._cluster.produce(self._lane, self._epoch(), self._topic, self._partition, list(records[-1:]))

    def commit(self) -> None:
        failpoint_beside("K10")
        self._cluster.commit(self._lane, self._epoch())

    def _epoch(self) -> int:
        try:
            return self._epochs[self._lane]
        except KeyError:
            raise Fenced(f"lane {self._lane or self.names[0]} is closed") from None

    def close(self) -> None:
        """What is open stays open until the next `init`."""
        self._epochs.clear()


class Reader:
    """One thread that feeds followed partitions of one topic to their sinks, in order."""

    def __init__(self, cluster: MemoryCluster, topic: str, name: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._followed: dict[int, tuple[int, Callable[[Sequence[Wire]], None]]] = {}
        self._reached: dict[int, int] = {}
        self._generation: dict[int, int] = {}
        self._paused: set[int] = set()
        self._delivering = threading.RLock()
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def follow(
        self,
        partition: int,
        offset: int,
        sink: Callable[[Sequence[Wire]], None],
        lost: Callable[[int], None] | None = None,
    ) -> None:
        with self._delivering, self._cluster.changed:
            start = self._cluster.partition(self._topic, partition).start
            if offset < start and lost is not None:
                lost(start)
                return
            self._generation[partition] = self._generation.get(partition, 0) + 1
            self._followed[partition] = (offset, sink)
            self._reached[partition] = offset
            self._paused.discard(partition)
            self._cluster.changed.notify_all()

    def unfollow(self, partition: int) -> None:
        with self._delivering, self._cluster.changed:
            self._generation[partition] = self._generation.get(partition, 0) + 1
            self._followed.pop(partition, None)
            self._reached.pop(partition, None)
            self._paused.discard(partition)

    def reached(self, partition: int) -> int:
        return self._reached.get(partition, 0)

    def refused(self) -> str:
        return ""

    def pause(self, partition: int) -> None:
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        with self._cluster.changed:
            self._paused.discard(partition)
            self._cluster.changed.notify_all()

    def close(self) -> None:
        """End the thread."""
        with self._cluster.changed:
            self._stopped = True
            self._cluster.changed.notify_all()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._cluster.changed:
                ready = self._ready()
                while not ready and not self._stopped:
                    self._cluster.changed.wait()
                    ready = self._ready()
                if self._stopped:
                    return
                found = []
                for partition in ready:
                    offset, sink = self._followed[partition]
                    wires, after = self._cluster.partition(self._topic, partition).read(offset, SLICE)
                    self._followed[partition] = (after, sink)
                    found.append((partition, self._generation[partition], sink, wires, after))
            for partition, generation, sink, wires, after in found:
                with self._delivering:
                    if self._generation.get(partition) == generation:
                        if wires:
                            sink(wires)
                        self._reached[partition] = after

    def _ready(self) -> list[int]:
        return [
            partition
            for partition, (offset, _) in self._followed.items()
            if partition not in self._paused and offset < self._cluster.partition(self._topic, partition).stable
        ]


class MemoryTail(Reader):
    """Owned events partitions, read_committed."""

    def bounds(self, partition: int) -> tuple[int, int]:
        with self._cluster.changed:
            log = self._cluster.partition(self._topic, partition)
            return log.start, log.stable


class MemoryInputs(Reader):
    """Commands partitions."""

    def bounds(self, partition: int) -> tuple[int, int]:
        with self._cluster.changed:
            log = self._cluster.partition(self._topic, partition)
            return log.start, log.stable


class MemoryReplies:
    """The only partition of the replies, from its end on."""

    partition = 0

    def __init__(self, cluster: MemoryCluster, app: str, sink: Callable[[bytes], None]) -> None:
        self.topic = f"{app}.replies"
        self._reader = Reader(cluster, self.topic, "replies")
        with cluster.changed:
            end = cluster.partition(self.topic, self.partition).end
        self._sink = sink
        self._reader.follow(self.partition, end, self._hear)

    def close(self) -> None:
        self._reader.close()

    def _hear(self, wires: Sequence[Wire]) -> None:
        for wire in wires:
            self._sink(wire.value)


class MemoryOutgoing:
    """An idempotent producer that acknowledges at once."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    def send(self, record: Out, done: Callable[[str], None]) -> None:
        done(self._cluster.send(record))

    def refused(self) -> str:
        return ""


class MemoryGroup:
    """The members of an application's group, shared by its processes: partitions dealt in turn."""

    def __init__(self, partitions: int) -> None:
        self.changed = threading.Condition()
        self.members: list[MemoryMembership] = []
        self.owners: dict[int, MemoryMembership | None] = dict.fromkeys(range(partitions))
        self.offsets: dict[int, tuple[int, str]] = {}

    def grow(self, partitions: int) -> None:
        """The members learn of new partitions."""
        with self.changed:
            for number in range(len(self.owners), partitions):
                self.owners[number] = None
            self.changed.notify_all()

    def wanted(self, member: MemoryMembership) -> set[int]:
        """What `member` should own."""
        if member not in self.members:
            return set()
        at, count = self.members.index(member), len(self.members)
        return {number for number in self.owners if number % count == at}


class MemoryMembership:
    """One process's membership of a group."""

    def __init__(self, group: MemoryGroup) -> None:
        self._group = group
        self._stopped = False
        self._revoking: set[int] = set()
        self._thread = threading.Thread(target=self._serve, name="membership", daemon=True)
        self._assigned: Callable[[Sequence[int]], None] = lambda numbers: None
        self._revoked: Callable[[Sequence[int], bool], None] = lambda numbers, lost: None

    def start(self, assigned: Callable[[Sequence[int]], None], revoked: Callable[[Sequence[int], bool], None]) -> None:
        self._assigned, self._revoked = assigned, revoked
        with self._group.changed:
            self._group.members.append(self)
            self._group.changed.notify_all()
        self._thread.start()

    def released(self, partition: int) -> None:
        with self._group.changed:
            self._revoking.discard(partition)
            if self._group.owners.get(partition) is self:
                self._group.owners[partition] = None
            self._group.changed.notify_all()

    def commit_offset(self, partition: int, offset: int, metadata: str) -> None:
        self._group.offsets[partition] = (offset, metadata)

    def healthy(self) -> bool:
        return not self._stopped

    def stop(self) -> None:
        with self._group.changed:
            self._stopped = True
            if self in self._group.members:
                self._group.members.remove(self)
            for number, owner in self._group.owners.items():
                if owner is self:
                    self._group.owners[number] = None
            self._group.changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._group.changed:
                todo = self._todo()
                while todo is None and not self._stopped:
                    self._group.changed.wait()
                    todo = self._todo()
                if todo is None or self._stopped:
                    return
                gained, dropped = todo
                for number in gained:
                    self._group.owners[number] = self
                self._revoking.update(dropped)
            if dropped:
                self._revoked(dropped, False)
            if gained:
                self._assigned(gained)

    def _todo(self) -> tuple[list[int], list[int]] | None:
        wanted = self._group.wanted(self)
        owners = self._group.owners
        gained = [number for number in sorted(wanted) if owners[number] is None]
        dropped = [
            number
            for number, owner in owners.items()
            if owner is self and number not in wanted and number not in self._revoking
        ]
        return (gained, dropped) if gained or dropped else None


class MemoryLog:
    """One process's ports over a shared cluster and group."""

    def __init__(self, cluster: MemoryCluster, app: str, group: MemoryGroup, lanes: int = 2) -> None:
        self.app = app
        self._cluster = cluster
        self._lanes = lanes
        self._tail = MemoryTail(cluster, f"{app}.events", "tail")
        self._standby: MemoryTail | None = None
        self._inputs = MemoryInputs(cluster, f"{app}.commands", "inputs")
        self._outgoing = MemoryOutgoing(cluster)
        self._group = group
        self._membership = MemoryMembership(group)

    def topic_ids(self) -> TopicIds:
        commands, events = self._cluster.topics[f"{self.app}.commands"], self._cluster.topics[f"{self.app}.events"]
        return TopicIds(self._cluster.id, commands.id, events.id, len(commands.partitions))

    def lanes(self, partition: int) -> MemoryLanes:
        return MemoryLanes(self._cluster, self.app, partition, self._lanes)

    def tail(self) -> MemoryTail:
        return self._tail

    def standby(self) -> MemoryTail:
        if self._standby is None:
            self._standby = MemoryTail(self._cluster, f"{self.app}.events", "standby-tail")
        return self._standby

    def inputs(self) -> MemoryInputs:
        return self._inputs

    def outgoing(self) -> MemoryOutgoing:
        return self._outgoing

    def membership(self) -> MemoryMembership:
        return self._membership

    def replies(self, sink: Callable[[bytes], None]) -> MemoryReplies:
        return MemoryReplies(self._cluster, self.app, sink)

    def noted(self, partition: int) -> str:
        return self._group.offsets.get(partition, (0, ""))[1]

    def first_event(self) -> Wire | None:
        with self._cluster.changed:
            for log in self._cluster.topics[f"{self.app}.events"].partitions:
                if found := log.read(log.start, 1)[0]:
                    return found[0]
        return None

    def close(self) -> None:
        self._tail.close()
        self._inputs.close()
        if self._standby is not None:
            self._standby.close()


def create_topics(cluster: MemoryCluster, app: str, partitions: int, queues: Sequence[str] = ()) -> None:
    """What `orchestrator topics init` makes on Kafka."""
    for name, count in (
        ("commands", partitions),
        ("events", partitions),
        ("replies", 1),
        ("dead-letters", 1),
        ("anchors", 1),
        *((f"tasks.{queue}", partitions) for queue in queues),
    ):
        cluster.create(f"{app}.{name}", count)
