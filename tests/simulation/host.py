"""One engine process of a simulation: the real `Engine` and `Partition` on threads that the director lets run."""

from __future__ import annotations

import random
from collections.abc import Callable, Set
from typing import Any, Protocol

from orchestrator.codec.records import Codec
from orchestrator.core.retry import NOT_STARTED
from orchestrator.core.values import NOTHING, Failure
from orchestrator.engine.inbox import Inbox, Requests
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import Partition
from orchestrator.engine.run import Engine
from orchestrator.errors import StoreError
from orchestrator.sdk.execution import Report, StepCall, cancelled, outcome
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import Changes
from orchestrator.testing.memory_log import MemoryGroup
from tests.oracle.oracle import Receipt
from tests.property.folding import StateHash, States, place_of
from tests.simulation import load
from tests.simulation.cluster import Fate, FaultyCluster, Ports
from tests.simulation.scheduling import Actor, Stage

START_MS = 1_700_000_000_000
GRACE_MS = 4_000


class World(Fate, Protocol):
    """What a process finds around it (`tests.simulation.course.Course`)."""

    rng: random.Random
    stage: Stage
    now: float
    codec: Codec
    cluster: FaultyCluster
    group: MemoryGroup
    seen: dict[int, States]
    receipts: list[tuple[Receipt, bool]]
    begun: list[str]

    def prompt(self) -> bool: ...


class HostClock:
    """A machine's clocks: the wall's may be wrong and jump, the monotonic one began at some other time."""

    def __init__(self, world: World, base: float) -> None:
        self._world = world
        self._base = base
        self.ahead_ms = 0

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, as this machine believes."""
        return START_MS + int(self._world.now * 1000) + self.ahead_ms

    def monotonic(self) -> float:
        """Seconds that never run back."""
        return self._world.now + self._base


class DiskStore(MemoryStore):
    """A partition's directory. It can be full, and fall back to an older state as after a loss of power.

    Whatever state it holds at a place of the log, everyone must hold there: `seen` has the hashes.
    """

    def __init__(self, world: World, number: int) -> None:
        self._state = StateHash()
        self._seen = world.seen[number]
        self._world = world
        self._kept: tuple[Any, ...] | None = None
        super().__init__(world.codec)

    def write(self, changes: Changes, timers_from: int = 0) -> None:
        if verdict := self._world.verdict("store"):
            if verdict == "keep":
                self._keep()
            else:
                raise StoreError("the disk is full")
        self._state.before(self._data, changes)
        super().write(changes, timers_from)
        self._state.after(self._data, changes)
        place = place_of(self)
        known = self._seen.setdefault(place, self._state.value)
        assert known == self._state.value, f"two states at offset {place[0]} under claim {place[1]}"

    def clear(self) -> None:
        super().clear()
        self._state.value = 0

    def _keep(self) -> None:
        data = {family: dict(rows) for family, rows in self._data.items()}
        order = {family: list(keys) for family, keys in self._order.items()}
        self._kept = (data, order, self._state.value, dict(self._hints))

    def fall_back(self) -> None:
        """What was written since `_keep` had not reached the disk."""
        if self._kept is not None:
            self._data, self._order, self._state.value, self._hints = self._kept
            self._kept = None


class WaitingInbox(Inbox):
    """Waiting hands the baton on."""

    def __init__(self, host: Host, number: int) -> None:
        inputs = host.ports.inputs()
        super().__init__(lambda: inputs.pause(number), lambda: inputs.resume(number))
        self._host = host
        self._number = number

    def wait(self, timeout_s: float) -> bool:
        self._host.world.at("wait")
        self._pump()
        if self._idle():
            self._host.wait(lambda: not self._idle(), timeout_s)
        return not self._idle()

    def wait_tail(self, timeout_s: float) -> bool:
        if not self.tail:
            self._pump()
        if not self.tail:
            self._host.wait(lambda: bool(self.tail), timeout_s)
        return bool(self.tail)

    def pause_for(self, seconds: float) -> None:
        self._host.wait(lambda: self.request.release, seconds)

    def _pump(self) -> None:
        """Most of the time what is there comes at once."""
        if self._host.world.prompt():
            for feed in self._host.ports.feeds:
                feed.pump(self._number, 1_000)


class StagedPartition(Partition):
    """A partition whose thread is an actor."""

    host: Host

    def make_inbox(self) -> Inbox:
        return WaitingInbox(self.host, self.number)

    def start(self) -> None:
        if not self.host.dead:
            self.actor: Actor = self.host.world.stage.enter(self.host, self.run)

    def join(self, timeout_s: float | None = None) -> bool:
        return self.actor.done


class NoGuard:
    """No turn here is long, and the machine's clock is nobody's business."""

    def arm(self) -> None:
        """Nothing is watched."""

    def disarm(self) -> bool:
        """Never too long."""
        return False


class StagedEngine(Engine):
    """An engine without threads of its own."""

    def make_guard(self) -> Any:
        return NoGuard()


class Attempts:
    """The executor: an attempt has its effect when it begins, and ends when the director says so."""

    def __init__(self, host: Host, report: Report) -> None:
        self.calls: dict[str, StepCall] = {}
        self._told: set[str] = set()
        self._late: set[str] = set()
        self._reserved: set[str] = set()
        self._host = host
        self._report = report

    def start_many(self, calls: list[StepCall]) -> list[StepCall]:
        """See StepExecutor."""
        refused = []
        for call in calls:
            if call.token in self.calls:
                continue
            if not call.guarded and self._host.world.verdict("slot"):
                refused.append(call)
                continue
            self._reserved.discard(call.token)
            self.calls[call.token] = call
            if call.begin_before and self._host.clock.monotonic() > call.begin_before:
                self._late.add(call.token)
            else:
                self._host.effect(call)
        return refused

    def start(self, call: StepCall) -> bool:
        """See StepExecutor."""
        return not self.start_many([call])

    def cancel(self, token: str) -> None:
        """See StepExecutor."""
        if token in self.calls:
            self._told.add(token)

    def slot_free(self) -> bool:
        """See StepExecutor."""
        return True

    def reserve(self, token: str) -> bool:
        """See StepExecutor."""
        self._reserved.add(token)
        return True

    def unreserve(self, token: str) -> None:
        """See StepExecutor."""
        self._reserved.discard(token)

    def withdraw(self, token: str) -> bool:
        """See StepExecutor."""
        return False

    def running(self) -> Set[str]:
        """See StepExecutor."""
        return set(self.calls)

    def waiting(self, token: str) -> bool:
        """See StepExecutor."""
        return False

    def stop(self, grace_s: float) -> Set[str]:
        """See StepExecutor."""
        return set()

    def end(self, token: str, obeys: bool) -> None:
        """An attempt is over: its outcome is that of its arguments, unless it was told to end and obeys."""
        call = self.calls[token]
        if token in self._late:
            failure: Failure | None = Failure(NOT_STARTED, call.where())
            result = NOTHING
        elif token in self._told and obeys:
            failure, result = cancelled(call, "here"), NOTHING
        else:
            result, failure = load.outcome_of(call)
        self._report(outcome(call, result, failure))
        del self.calls[token]
        self._told.discard(token)
        self._late.discard(token)


class Host:
    """A machine with one engine process. `disk` outlives the process."""

    def __init__(self, world: World, number: int, options: EngineOptions, disk: dict[int, DiskStore]) -> None:
        self.world = world
        self.number = number
        self.dead = self.frozen = self.leaving = False
        self.disk = disk
        self.clock = HostClock(world, float(world.rng.randrange(1_000)))
        self.ports = Ports(world.cluster, load.APP, world.group, world)
        partition_type = type("HostPartition", (StagedPartition,), {"host": self})
        self.engine = StagedEngine(
            self.ports,
            load.app.registry,
            lambda report, freed: Attempts(self, report),  # type: ignore[arg-type, return-value]
            self._open_store,
            options,
            self.clock,
            world.codec,
        )
        self.engine.partition_type = partition_type
        assert isinstance(self.engine.executor, Attempts)
        self.executor: Attempts = self.engine.executor
        self.ports.member.join(self.engine._assigned, self.engine._revoked)

    @property
    def partitions(self) -> list[Partition]:
        """The partitions that it has now."""
        return list(self.engine.partitions.values())

    def _open_store(self, number: int, codec: Codec) -> DiskStore:
        if number not in self.disk:
            self.disk[number] = DiskStore(self.world, number)
        return self.disk[number]

    def wait(self, until: Callable[[], bool], timeout_s: float) -> None:
        """Called by one of its threads."""
        self.world.stage.wait(until, self.world.now + timeout_s)

    def effect(self, call: StepCall) -> None:
        """An attempt begins: its receiver writes it down."""
        receipt = Receipt(call.idempotency_key, START_MS + int(self.world.now * 1000))
        self.world.receipts.append((receipt, call.guarded))
        if call.guarded:
            self.world.begun.append(call.token)

    def leave(self) -> None:
        """SIGTERM: as `Engine.stop` begins; it ends with `gone`."""
        self.leaving = True
        self.engine._stopping.set()
        for partition in self.partitions:
            partition.inbox.ask(Requests(release=True, grace_ms=GRACE_MS))

    def released(self) -> bool:
        """Whether its partitions are: `Engine.stop` leaves the group then."""
        return all(actor.done for actor in self.world.stage.actors if actor.owner is self)

    def gone(self) -> bool:
        """Whether nothing of it is left: its attempts have ended and were reported."""
        return self.ports.member._stopped and not self.executor.calls and not self.ports.producer.queue

    def die(self) -> None:
        """Nothing of it goes on. (Coroutines are ended by hand: the test's own process lives.)"""
        self.dead = self.ports.member.dead = True
        self.world.stage.end(self)
        for partition in self.partitions:
            if partition._loop is not None:
                partition._loop.turns.clear()
