"""Engines on the log in memory in one thread: every moment of delivery, of death and of time is the test's choice."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any
from unittest import mock

from orchestrator.codec.records import Codec
from orchestrator.core.commands import ReportStep
from orchestrator.core.values import Failure, Payload
from orchestrator.engine import loop as engine_loop, ownership, restored
from orchestrator.engine.handed_over import Tokens
from orchestrator.engine.inbox import Inbox
from orchestrator.engine.loop import PartitionLoop
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.ownership import Ground
from orchestrator.engine.shared import Shared
from orchestrator.log.ports import Out, TopicIds, Wire
from orchestrator.sdk.execution import StepCall, StepReport, cancelled, outcome
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import Changes
from orchestrator.testing import memory_log
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryLanes, MemoryOutgoing, create_topics

from . import interpreter
from .folding import StateHash, States, place_of

START_MS = 1_700_000_000_000
NEVER_MS = 10**15


class Killed(BaseException):
    """The process died here."""


class ManualClock:
    """Time that stands still until the test moves it."""

    def __init__(self) -> None:
        self.ms = START_MS

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.ms

    def monotonic(self) -> float:
        """Seconds."""
        return self.ms / 1000


class Guard:
    """No turn of these programs is long."""

    def arm(self) -> None:
        """Nothing is watched."""

    def disarm(self) -> bool:
        """Never too long."""
        return False


class Reader:
    """A topic's reader that is pumped by whoever waits for it."""

    def __init__(self, cluster: MemoryCluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._followed: dict[int, list[Any]] = {}
        self.bounded: int | None = None
        """How many records come at a time; None: all."""

    def follow(
        self,
        partition: int,
        offset: int,
        sink: Callable[[Sequence[Wire]], None],
        lost: Callable[[int], None] | None = None,
    ) -> None:
        self._followed[partition] = [offset, sink]

    def unfollow(self, partition: int) -> None:
        self._followed.pop(partition, None)

    def pause(self, partition: int) -> None: ...

    def resume(self, partition: int) -> None: ...

    def bounds(self, partition: int) -> tuple[int, int]:
        log = self._cluster.partition(self._topic, partition)
        return log.start, log.stable

    def refused(self) -> str:
        return ""

    def reached(self, partition: int) -> int:
        found: int = self._followed.get(partition, (0,))[0]
        return found

    def waits(self, partition: int) -> bool:
        """Whether there is something that was not delivered."""
        at = self._followed.get(partition)
        return at is not None and at[0] < self._cluster.partition(self._topic, partition).stable

    def pump(self, partition: int, limit: int = 1 << 30) -> None:
        """Deliver."""
        at = self._followed.get(partition)
        if at is None:
            return
        wires, at[0] = self._cluster.partition(self._topic, partition).read(at[0], limit)
        if wires:
            at[1](wires)


class PumpedInbox(Inbox):
    """Waiting reads the owner's log; it never blocks."""

    def __init__(self, tail: Reader, number: int) -> None:
        super().__init__(lambda: None, lambda: None)
        self._tail = tail
        self._number = number

    def wait(self, timeout_s: float) -> bool:
        self._tail.pump(self._number)
        return not self._idle()

    def wait_tail(self, timeout_s: float) -> bool:
        if not self.tail:
            self._tail.pump(self._number)
        return bool(self.tail)


class Membership:
    """Group offsets, kept."""

    def __init__(self, notes: dict[int, str]) -> None:
        self._notes = notes

    def commit_offset(self, partition: int, offset: int, metadata: str) -> None:
        self._notes[partition] = metadata

    def healthy(self) -> bool:
        return True


class Log:
    """One process's ports (`orchestrator.log.ports.Log`)."""

    def __init__(self, cluster: MemoryCluster, app: str, notes: dict[int, str]) -> None:
        self.app = app
        self._cluster = cluster
        self._notes = notes
        self._tail = Reader(cluster, f"{app}.events")
        self._inputs = Reader(cluster, f"{app}.commands")
        self._outgoing = MemoryOutgoing(cluster)
        self._membership = Membership(notes)

    def topic_ids(self) -> TopicIds:
        commands, events = self._cluster.topics[f"{self.app}.commands"], self._cluster.topics[f"{self.app}.events"]
        return TopicIds(self._cluster.id, commands.id, events.id, len(commands.partitions))

    def lanes(self, partition: int) -> MemoryLanes:
        return MemoryLanes(self._cluster, self.app, partition)

    def tail(self) -> Reader:
        return self._tail

    def inputs(self) -> Reader:
        return self._inputs

    def outgoing(self) -> MemoryOutgoing:
        return self._outgoing

    def membership(self) -> Any:
        return self._membership

    def noted(self, partition: int) -> str:
        return self._notes.get(partition, "")

    def first_event(self) -> Wire | None:
        for log in self._cluster.topics[f"{self.app}.events"].partitions:
            if found := log.read(log.start, 1)[0]:
                return found[0]
        return None

    def close(self) -> None: ...


class Executor:
    """Attempts end when the test says so (`orchestrator.sdk.execution.StepExecutor`)."""

    def __init__(self) -> None:
        self.calls: dict[str, StepCall] = {}
        self.told: set[str] = set()

    def start_many(self, calls: list[StepCall]) -> list[StepCall]:
        for call in calls:
            self.calls.setdefault(call.token, call)
        return []

    def start(self, call: StepCall) -> bool:
        return not self.start_many([call])

    def cancel(self, token: str) -> None:
        if token in self.calls:
            self.told.add(token)

    def withdraw(self, token: str) -> bool:
        """See StepExecutor."""
        return False

    def running(self) -> Set[str]:
        return set(self.calls)

    def waiting(self, token: str) -> bool:
        return False

    def end(self, token: str, obeys: bool) -> StepReport:
        """The outcome of an attempt: that of its arguments, or its cancellation if it was told and obeys."""
        call = self.calls.pop(token)
        if token in self.told and obeys:
            self.told.discard(token)
            return outcome(call, Payload(), cancelled(call, "here"))
        return outcome_of(call)


def outcome_of(call: StepCall) -> StepReport:
    """How an attempt ends by its arguments and its number."""
    label, fails, ends = interpreter.work.code.signature.unbind(call.arguments)[0]
    if ends == "broken":
        return outcome(call, Payload(), Failure("Broken", label, retryable=False))
    if call.attempt <= fails or ends == "exhausted":
        return outcome(call, Payload(), Failure("NotNow", label))
    return outcome(call, Payload(data=json.dumps(label).encode()), None)


class HashedStore(MemoryStore):
    """Keeps a hash of everything that it holds, at every place of the log that it stood at."""

    def __init__(self, codec: Codec, seen: States) -> None:
        self.hash = StateHash()
        self.seen = seen
        super().__init__(codec)

    def write(self, changes: Changes, timers_from: int = 0) -> None:
        self.hash.before(self._data, changes)
        super().write(changes, timers_from)
        self.hash.after(self._data, changes)
        place = place_of(self)
        known = self.seen.setdefault(place, self.hash.value)
        assert known == self.hash.value, f"two states at offset {place[0]} under claim {place[1]}"


class Process:
    """One engine process: a loop a partition."""

    def __init__(
        self,
        cluster: MemoryCluster,
        app: str,
        notes: dict[int, str],
        stores: dict[int, HashedStore],
        clock: ManualClock,
        options: EngineOptions,
        codec: Codec,
    ) -> None:
        self.log = Log(cluster, app, notes)
        self.executor = Executor()
        self.loops: dict[int, PartitionLoop] = {}
        shared = Shared(
            self.log, codec, interpreter.app.registry, self.executor, Guard(), clock, options,  # type: ignore[arg-type]
            stores.__getitem__, lambda number, problem: None, {}, Tokens(), Tokens(),
        )  # fmt: skip
        for number, store in stores.items():
            inbox = PumpedInbox(self.log.tail(), number)
            ground = Ground(number, self.log, codec, store, inbox, options)  # type: ignore[arg-type]
            self.loops[number] = PartitionLoop(ground, shared)
        self.owned: set[int] = set()

    def claim(self, number: int) -> None:
        """Take a partition over."""
        loop = self.loops[number]
        loop.ground.take_over()
        loop.begin()
        self.owned.add(number)

    def abandon(self, number: int) -> None:
        """Give the claim up, as after any failure of a commit."""
        self.owned.discard(number)
        self.loops[number].abandon()

    def die(self) -> None:
        """Nothing of it goes on. (Coroutines are ended by hand: the test's own process lives.)"""
        for loop in self.loops.values():
            loop.turns.clear()
        self.owned.clear()


@contextmanager
def deaths(rng: random.Random, chance: Callable[[], float]) -> Iterator[None]:
    """At every fail point the process may die."""

    def point(name: str) -> None:
        if rng.random() < chance():
            raise Killed(name)

    with (
        mock.patch.object(engine_loop, "failpoint", point),
        mock.patch.object(ownership, "failpoint", point),
        mock.patch.object(restored, "failpoint", point),
        mock.patch.object(memory_log, "failpoint", point),
        mock.patch.object(memory_log, "failpoint_beside", point),
    ):
        yield


def make_cluster(app: str, partitions: int) -> MemoryCluster:
    """Topics of an application."""
    cluster = MemoryCluster()
    create_topics(cluster, app, partitions)
    return cluster


def send(cluster: MemoryCluster, app: str, key: str, value: bytes) -> None:
    """A command on its partition."""
    assert cluster.send(Out(f"{app}.commands", -1, key.encode(), value)) == ""


def as_command(report: StepReport) -> ReportStep:
    """The body of a report that comes as a command."""
    assert isinstance(report.body, ReportStep)
    return report.body
