"""Interleavings by construction: commands are kept back until all are let go as one, or an owner's thread stands still
at a point of its loop while the test says what comes next. Nothing here depends on luck or on how long a sleep is.

Both need engines in the test's own process: such tests use the fixture `held`, and no mode with engine processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar
from unittest import mock

from orchestrator import failpoints
from orchestrator.core.events import Event
from orchestrator.core.replay import BatchAssembler
from orchestrator.core.values import BatchId
from orchestrator.engine.batch import Batch
from orchestrator.engine.inbox import Inbox
from orchestrator.engine.partition import Partition, State
from orchestrator.engine.run import Engine
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Fenced, Wire
from orchestrator.store.rows import Store
from tests.contract.world import CODEC, World
from tests.engine.rig import kill

PATIENCE_S = 25.0
"""Below what an engine takes for hung: it ends its process."""
LOOK_S = 0.005
POINTS = {"commits": "K8", "lost": "K8", "unproven": "K9"}
"""How a batch that stood still goes on: it commits; it never does; it did, and nobody has read that yet."""


async def until(holds: Callable[[], Any], what: str = "") -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"it never came to that: {what or holds}"
        await asyncio.sleep(LOOK_S)


class Gates:
    """Steps that stand until the test lets them go, by name."""

    def __init__(self) -> None:
        self._gates: dict[str, threading.Event] = {}
        self.began: list[str] = []

    def __getitem__(self, name: str) -> threading.Event:
        return self._gates.setdefault(name, threading.Event())

    def wait(self, name: str) -> None:
        """In a step: say that it began, and wait."""
        self.began.append(name)
        assert self[name].wait(30)

    async def stands(self, name: str) -> None:
        """Wait until the step of that name began."""
        await until(lambda: name in self.began, f"step {name} to begin")


def home(world: World, workflow_id: str) -> int:
    """The partition of a workflow."""
    return partition_of(workflow_id.encode(), world.mode.partitions)


def apart(world: World, name: str, workflow_id: str) -> str:
    """An id of another partition than a workflow's, if there are more than one."""
    partitions = world.mode.partitions
    found = (f"{name}-{number}" for number in range(1_000))
    return next(one for one in found if partitions == 1 or home(world, one) != home(world, workflow_id))


def recorded(world: World, workflow_id: str) -> list[tuple[BatchId, Event]]:
    """What the log has of a workflow, records of its partition among it, each with its batch."""
    assert world.ground is not None
    assembler, found = BatchAssembler("events"), []
    for raw in world.ground.records("events")[home(world, workflow_id)]:
        batch = assembler.feed(CODEC.decode_event(raw.key, raw.value), raw.offset)
        for record in batch.records if batch else ():
            if record.event.workflow_id == workflow_id:
                found.append((BatchId(record.event.claim_no, record.event.batch_no), record.event))
    return found


def kinds(world: World, workflow_id: str) -> list[str]:
    """The types of what the log has of a workflow."""
    return [type(event.body).__name__ for _, event in recorded(world, workflow_id)]


async def met_at_last(world: World, meet: Callable[[str], Awaitable[bool]]) -> None:
    """`meet` says whether what was to meet did. A partition that is dealt out meanwhile parts it: it is begun anew."""
    for number in range(20):
        if await meet(f"w{number}"):
            return
        assert world.mode.deal_s, "what was to meet did not"
    raise AssertionError("they never met")


def owned_store(world: World, workflow_id: str) -> Store | None:
    """The state of a workflow's partition, at its owner; who gave it away keeps what was then."""
    for engine in world.engines:
        partition = engine.partitions.get(home(world, workflow_id)) if isinstance(engine, Engine) else None
        if partition is not None and partition.state is State.OWNED and partition._loop is not None:
            return partition._loop.ground.store
    return None


def of_kind(world: World, workflow_id: str, kind: type) -> list[tuple[BatchId, Event]]:
    """Those of one type."""
    return [one for one in recorded(world, workflow_id) if isinstance(one[1].body, kind)]


@contextlib.contextmanager
def holding() -> Iterator[None]:
    """What `KeptBack` needs, from before the engines start: readers know from their claim on where commands go.

    A batch takes its time: what is let go at once is decided in one, however slow the machine is.
    """
    put, drop, bound = Inbox.put_commands, Inbox.drop_commands, Batch.bound
    passed: set[str] = set()

    def put_commands(inbox: Inbox, records: Sequence[Wire]) -> None:
        if KeptBack.now is None or not KeptBack.now.keeps(inbox, records):
            passed.update(id_of(wire) for wire in records)
            put(inbox, records)

    def drop_commands(inbox: Inbox) -> None:
        if KeptBack.now is not None:
            KeptBack.now.forget(inbox)
        drop(inbox)

    with (
        mock.patch.object(Inbox, "put_commands", put_commands),
        mock.patch.object(Inbox, "drop_commands", drop_commands),
        mock.patch.object(Batch, "bound", lambda batch, _ms, most, _cuts: bound(batch, PATIENCE_S * 1_000, most)),
        mock.patch.object(KeptBack, "passed", passed),
    ):
        yield


def id_of(wire: Wire) -> str:
    """The id of a command."""
    return CODEC.decode_command(wire.value).id


def ids_of(workflow_id: str, wires: Iterable[Wire]) -> set[str]:
    """The ids of a workflow's commands. A caller that has waited for long sends one again."""
    return {id_of(wire) for wire in wires if wire.key == workflow_id.encode()}


class KeptBack:
    """The commands of a workflow's partition reach its owner all at once, in their order, when the block ends.

    An owner takes at least ten commands into a batch: up to so many are decided in one.
    """

    now: KeptBack | None = None
    passed: ClassVar[set[str]] = set()
    """Ids of what reached an owner before."""

    def __init__(self, world: World, workflow_id: str) -> None:
        self._number = home(world, workflow_id)
        self._kept: dict[Inbox, list[Wire]] = {}
        self._lock = threading.Lock()
        self._over = False

    async def __aenter__(self) -> KeptBack:
        KeptBack.now = self
        return self

    async def __aexit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
            for inbox, wires in self._kept.items():
                inbox.put_commands(wires)
        KeptBack.now = None

    def keeps(self, inbox: Inbox, records: Sequence[Wire]) -> bool:
        """Whether these come to nobody yet."""
        if self._over or records[0].partition != self._number:
            return False
        with self._lock:
            if self._over:
                return False
            self._kept.setdefault(inbox, []).extend(records)
            return True

    def forget(self, inbox: Inbox) -> None:
        """They are read again."""
        with self._lock:
            self._kept.pop(inbox, None)

    async def has(self, workflow_id: str, count: int) -> None:
        """Wait until so many commands of a workflow are kept back."""

        def are() -> bool:
            with self._lock:
                kept = [ids_of(workflow_id, wires) - self.passed for wires in self._kept.values()]
                return max(map(len, kept), default=0) >= count

        await until(are, f"{count} commands of {workflow_id}")

    async def then(self, workflow_id: str, *calls: Any) -> list[asyncio.Task[Any]]:
        """Make calls one after the other: each one's command lies on the log before the next one's is sent."""
        tasks = []
        for number, call in enumerate(calls, 1):
            tasks.append(asyncio.ensure_future(call))
            await self.has(workflow_id, number)
        return tasks


class Halted:
    """The owner of a workflow stands still with the first batch that holds a `kind` of it, until `go_on`."""

    def __init__(self, world: World, workflow_id: str, kind: type, how: str = "commits") -> None:
        self._world = world
        self._workflow_id = workflow_id
        self._kind = kind
        self._how = how
        self._number = home(world, workflow_id)
        self._used = False
        self._reached, self._free = threading.Event(), threading.Event()
        self._error: BaseException | None = Fenced("as the test wants it") if how != "commits" else None
        self.engine: Engine | None = None
        self.partition: Partition | None = None
        self.batch: Batch | None = None

    async def __aenter__(self) -> Halted:
        failpoints.watch(self._hook)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._free.set()
        failpoints.watch(None)

    def _hook(self, point: str) -> None:
        if self._used or point != POINTS[self._how] or threading.current_thread().name != f"partition-{self._number}":
            return
        for engine in self._world.engines:
            partition = engine.partitions.get(self._number) if isinstance(engine, Engine) else None
            if partition is None or partition._thread is not threading.current_thread():
                continue
            loop = partition._loop
            batch = loop._open if loop is not None else None
            if batch is None or not self._wanted(batch):
                return
            self._used, self.engine, self.partition, self.batch = True, engine, partition, batch
            self._reached.set()
            assert self._free.wait(PATIENCE_S)
            if self._error is not None:
                raise self._error

    def _wanted(self, batch: Batch) -> bool:
        events = [record.event for record in batch.records]
        return any(isinstance(one.body, self._kind) and one.workflow_id == self._workflow_id for one in events)

    async def reached(self) -> Batch:
        """Wait until it stands still; the batch that is under way."""
        await until(self._reached.is_set, f"{self._kind.__name__} of {self._workflow_id}")
        assert self.batch is not None
        self._under_way = {record.event.cause.command_id for record in self.batch.records}
        return self.batch

    async def has(self, count: int) -> None:
        """Wait until so many commands of the workflow wait for the owner that stands still."""
        assert self.partition is not None
        inbox = self.partition.inbox
        await until(
            lambda: len(ids_of(self._workflow_id, list(inbox.commands)) - self._under_way) >= count,
            f"{count} commands of {self._workflow_id}",
        )

    async def holds(self, command_id: str) -> None:
        """Wait until a command of that id, which may be one of the batch's again, waits for the owner."""
        assert self.partition is not None
        inbox = self.partition.inbox
        await until(
            lambda: any(id_of(wire) == command_id for wire in list(inbox.commands)), f"the command {command_id}"
        )

    async def then(self, *calls: Any) -> list[asyncio.Task[Any]]:
        """Make calls one after the other, whose commands then wait for the owner that stands still."""
        tasks = []
        for number, call in enumerate(calls, 1):
            tasks.append(asyncio.ensure_future(call))
            await self.has(number)
        return tasks

    async def reported(self) -> bool:
        """Wait until the outcome of a step of the workflow is there; whether it is a report of this process, which is
        decided before time, and not a worker's command."""
        assert self.partition is not None
        inbox = self.partition.inbox

        def is_report() -> bool:
            return any(one.workflow_id == self._workflow_id for one in list(inbox.reports))

        def is_command() -> bool:
            return bool(ids_of(self._workflow_id, list(inbox.commands)) - self._under_way)

        await until(lambda: is_report() or is_command(), f"the outcome of a step of {self._workflow_id}")
        return is_report()

    async def due(self, kind: type, at: Callable[[Any], int]) -> None:
        """Wait until a time of the batch's is past, by the clock that the owner's next batch begins with."""
        assert self.batch is not None
        found = next(record.event for record in self.batch.records if isinstance(record.event.body, kind))
        moment = at(found)
        await until(lambda: time.time() * 1000 > moment, f"the log's clock at {moment}")

    def go_on(self) -> None:
        """The owner goes on, as the halt was made for."""
        self._free.set()

    async def die(self) -> None:
        """The owner's process ends here, as by SIGKILL; new ones take over."""
        assert self.engine is not None
        self._error = SystemExit()
        self._free.set()
        async with self._world.moves:
            if self.engine in self._world.engines:
                self._world.engines.remove(self.engine)
                await asyncio.to_thread(kill, self.engine)
            await asyncio.to_thread(self._world.start)
