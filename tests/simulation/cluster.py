"""The cluster in memory with what a network does to it, and one process's ports over it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from orchestrator.errors import KafkaUnavailable
from orchestrator.log.ports import Fenced, Out, TopicIds, Wire
from orchestrator.testing.memory_cluster import ABORTED, COMMITTED, MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLanes, MemoryMembership

Records = list[tuple[bytes, bytes]]


class Fate(Protocol):
    """Who decides what befalls a call."""

    def verdict(self, verb: str) -> str:
        """ "" works; else the name of what goes wrong with this call."""

    def at(self, point: str) -> None:
        """A place where the caller may stop, or die."""


class FaultyCluster(MemoryCluster):
    """A cluster whose answers get lost, and to which requests come late.

    `late` holds ends of transactions that are still on their way: what arrives ends whatever that epoch has open then,
    as a broker does for a client without KIP-890 (docs/the-hole.md).
    """

    def __init__(self, fate: Fate, new_id: Callable[[], str], now_ms: Callable[[], int]) -> None:
        super().__init__(new_id=new_id)
        self.wall_ms = now_ms
        self.late: list[tuple[str, int, str]] = []
        self._fate = fate
        self._ended: dict[tuple[str, int], str] = {}
        """Transactions that were ended from the network, by lane and epoch, until their producer notices."""

    def begin(self, name: str, epoch: int) -> None:
        """A producer begins a transaction: it knows nothing of what became of the one before."""
        self._ended.pop((name, epoch), None)

    def init(self, name: str) -> int:
        """See MemoryCluster. Raises Fenced after it took effect when that is the verdict."""
        verdict = self._fate.verdict("init")
        epoch = super().init(name)
        if verdict:
            raise Fenced(f"{name}: init {verdict}")
        return epoch

    def produce(self, name: str, epoch: int, topic: str, number: int, records: Records) -> None:
        """See MemoryCluster. Raises Fenced when refused, or when the answer is lost."""
        if (name, epoch) in self._ended:
            raise Fenced(f"{name}: the partition is in no transaction")
        verdict = self._fate.verdict("produce")
        if verdict != "refused":
            super().produce(name, epoch, topic, number, records)
        if verdict:
            raise Fenced(f"{name}: produce {verdict}")

    def commit(self, name: str, epoch: int) -> None:
        """See MemoryCluster. "late" is lost and comes later, "twice" comes again later, "void" is OK and an abort."""
        ended = self._ended.pop((name, epoch), "")
        known = self._current(name, epoch)
        if ended:
            if ended == ABORTED and self._fate.verdict("ended"):
                raise Fenced(f"{name}: the transaction was aborted")
            return
        verdict = self._fate.verdict("commit")
        if verdict in ("", "unknown", "twice", "void"):
            self._end(name, known, ABORTED if verdict == "void" else COMMITTED)
        if verdict in ("late", "twice"):
            self.late.append((name, epoch, COMMITTED))
        if verdict in ("lost", "unknown", "late"):
            raise Fenced(f"{name}: commit {verdict}")

    def arrive(self, number: int, state: str = "") -> bool:
        """The end of a transaction comes out of the network; `state` is what it says in truth, if not commit.

        Whether it ended one that its sender did not mean.
        """
        name, epoch, said = self.late.pop(number)
        known = self._transactional[name]
        if known.epoch != epoch or not known.touched:
            return False
        self._end(name, known, state or said)
        self._ended[name, epoch] = state or said
        return True

    def open_lanes(self) -> list[str]:
        """Transactional ids with an open transaction."""
        return [name for name, known in self._transactional.items() if known.touched]

    def expire(self, name: str) -> None:
        """A transaction was open for too long: the coordinator aborts it and fences its producer."""
        known = self._transactional[name]
        known.epoch += 1
        self._end(name, known, ABORTED)


class Lanes(MemoryLanes):
    """Lanes on a cluster that must be told of a transaction's begin."""

    def begin(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        assert isinstance(self._cluster, FaultyCluster)
        for name, epoch in self._epochs.items():
            self._cluster.begin(name, epoch)
        super().begin(records)


class Feed:
    """A topic's reader. Nothing comes by itself: `pump` delivers."""

    def __init__(self, cluster: MemoryCluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._followed: dict[int, tuple[int, Callable[[Sequence[Wire]], None]]] = {}
        self._paused: set[int] = set()

    def follow(
        self,
        partition: int,
        offset: int,
        sink: Callable[[Sequence[Wire]], None],
        lost: Callable[[int], None] | None = None,
    ) -> None:
        self._followed[partition] = (offset, sink)
        self._paused.discard(partition)

    def unfollow(self, partition: int) -> None:
        self._followed.pop(partition, None)

    def pause(self, partition: int) -> None:
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)

    def bounds(self, partition: int) -> tuple[int, int]:
        log = self._cluster.partition(self._topic, partition)
        return log.start, log.stable

    def refused(self) -> str:
        return ""

    def reached(self, partition: int) -> int:
        at = self._followed.get(partition)
        return at[0] if at is not None else 0

    def waits(self) -> list[int]:
        """Partitions with something that was not delivered."""
        return [
            number
            for number, (offset, _) in self._followed.items()
            if number not in self._paused and offset < self._cluster.partition(self._topic, number).stable
        ]

    def pump(self, partition: int, limit: int) -> None:
        """Deliver."""
        at = self._followed.get(partition)
        if at is None or partition in self._paused:
            return
        wires, after = self._cluster.partition(self._topic, partition).read(at[0], limit)
        self._followed[partition] = (after, at[1])
        if wires:
            at[1](wires)


class Producer:
    """The idempotent producer: in order, and acknowledged when the director says so."""

    def __init__(self, cluster: MemoryCluster, fate: Fate) -> None:
        self._cluster = cluster
        self._fate = fate
        self.queue: deque[tuple[Out, Callable[[str], None]]] = deque()
        self.acks: deque[tuple[Callable[[str], None], str]] = deque()

    def refused(self) -> str:
        return ""

    def send(self, record: Out, done: Callable[[str], None]) -> None:
        self._fate.at("send")
        self.queue.append((record, done))
        if not self._fate.verdict("send"):
            self.flush()
            self.acknowledge()

    def flush(self) -> None:
        """Everything that is queued reaches the broker."""
        while self.queue:
            record, done = self.queue.popleft()
            self.acks.append((done, self._cluster.send(record)))

    def acknowledge(self) -> None:
        """The broker's answers come."""
        while self.acks:
            done, problem = self.acks.popleft()
            done(problem)


class Membership(MemoryMembership):
    """A member whose callbacks come when the director says so."""

    def __init__(self, group: MemoryGroup, fate: Fate) -> None:
        super().__init__(group)
        self._fate = fate
        self.dead = False
        self.gone: list[int] = []
        """What it owned when the group expelled it, until it is told."""
        self.expelled = False

    def join(self, assigned: Callable[[Sequence[int]], None], revoked: Callable[[Sequence[int], bool], None]) -> None:
        """Become a member."""
        self._assigned, self._revoked = assigned, revoked
        self._group.members.append(self)

    def due(self) -> bool:
        """Whether the group has something to say to it."""
        return not self._stopped and (self.expelled or self._todo() is not None)

    def step(self) -> None:
        """Hear it."""
        if self.expelled:
            self.expelled = False
            lost, self.gone = self.gone, []
            self._revoking.clear()
            self._group.members.append(self)
            self._revoked(lost, True)
            return
        todo = self._todo()
        assert todo is not None
        gained, dropped = todo
        for number in gained:
            self._group.owners[number] = self
        self._revoking.update(dropped)
        if dropped:
            self._revoked(dropped, False)
        if gained:
            self._assigned(gained)

    def expel(self) -> None:
        """The group heard nothing of it for too long."""
        if self in self._group.members:
            self._group.members.remove(self)
        self.gone = [number for number, owner in self._group.owners.items() if owner is self]
        for number in self.gone:
            self._group.owners[number] = None
        self.expelled = True

    def released(self, partition: int) -> None:
        if not self.dead:
            super().released(partition)

    def commit_offset(self, partition: int, offset: int, metadata: str) -> None:
        if not self.dead and not self._fate.verdict("note"):
            super().commit_offset(partition, offset, metadata)

    def healthy(self) -> bool:
        return not self._stopped and not (self.expelled and self._fate.verdict("healthy"))


class Ports:
    """One process's log (`orchestrator.log.ports.Log`)."""

    def __init__(self, cluster: FaultyCluster, app: str, group: MemoryGroup, fate: Fate) -> None:
        self.app = app
        self.feeds = (Feed(cluster, f"{app}.events"), Feed(cluster, f"{app}.commands"))
        self.producer = Producer(cluster, fate)
        self.member = Membership(group, fate)
        self._cluster = cluster
        self._group = group
        self._fate = fate

    def topic_ids(self) -> TopicIds:
        self._fate.at("topics")
        if self._fate.verdict("topics"):
            raise KafkaUnavailable("no broker answers")
        commands, events = self._cluster.topics[f"{self.app}.commands"], self._cluster.topics[f"{self.app}.events"]
        return TopicIds(self._cluster.id, commands.id, events.id, len(commands.partitions))

    def lanes(self, partition: int) -> Lanes:
        return Lanes(self._cluster, self.app, partition)

    def tail(self) -> Feed:
        return self.feeds[0]

    def standby(self) -> Feed:
        return Feed(self._cluster, f"{self.app}.events")

    def inputs(self) -> Feed:
        return self.feeds[1]

    def outgoing(self) -> Producer:
        return self.producer

    def membership(self) -> Membership:
        return self.member

    def noted(self, partition: int) -> str:
        return self._group.offsets.get(partition, (0, ""))[1]

    def first_event(self) -> Wire | None:
        for log in self._cluster.topics[f"{self.app}.events"].partitions:
            if found := log.read(log.start, 1)[0]:
                return found[0]
        return None

    def close(self) -> None:
        """Nothing is held."""
