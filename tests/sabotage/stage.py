"""What the scenarios play on: one application of one partition in memory, and an outside receiver of effects."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator import Orchestrator, RetryPolicy, step_info
from orchestrator.core import commands as c
from orchestrator.core.apply.fold import Settings
from orchestrator.core.events import BatchFooter
from orchestrator.core.values import Payload
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import Partition, State
from orchestrator.engine.run import Engine
from orchestrator.errors import LogGap
from orchestrator.testing.memory_cluster import ABORTED, OPEN
from orchestrator.testing.memory_log import MemoryGroup, MemoryLanes, MemoryLog
from tests.engine.dumps import dumps
from tests.engine.rig import MemorySite, Rig
from tests.oracle.oracle import Dumps, Evidence, Expected, LoadModel, Receipt, check, replies_of
from tests.oracle.verdict import Verdict

NAME = "sabotaged"
QUEUE = "far"
PATIENCE_S = 20.0

received: list[Receipt] = []
"""What the outside receiver of effects got."""

app = Orchestrator(NAME)
go = app.signal("go", int)


@app.step
async def add(x: int) -> int:
    """An effect, noted by its receiver."""
    received.append(Receipt(step_info().idempotency_key, time.time_ns() // 1_000_000))
    return x + 1


@app.step(queue=QUEUE, retry=RetryPolicy(initial_interval=timedelta(milliseconds=1), max_attempts=3))
async def far(x: int) -> int:
    """A step of remote workers."""
    return x + 1


@app.workflow
async def once(x: int) -> int:
    """One step."""
    return await add(x)


@app.workflow
async def listen(n: int) -> int:
    """The sum of `n` signals."""
    total = 0
    for _ in range(n):
        total += await go.wait()
    return total


@app.workflow
async def sleep(ms: int) -> int:
    """One timer."""
    await asyncio.sleep(ms / 1000)
    return ms


@app.workflow
async def remote(x: int) -> int:
    """One remote step."""
    return await far(x)


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Wait on a condition; fails the test when it does not come true."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.002)


class StagedLog(MemoryLog):
    """A process's ports; `before_init` is called before its lanes are initialised."""

    before_init: Callable[[], None] = staticmethod(lambda: None)

    def lanes(self, partition: int) -> MemoryLanes:
        lanes = super().lanes(partition)
        init = lanes.init

        def hooked(extra: tuple[str, ...] = ()) -> None:
            self.before_init()
            init(extra)

        lanes.init = hooked  # type: ignore[method-assign, assignment]
        return lanes


class StagedSite(MemorySite):
    """Every process has a group of its own: two that are told to own the partition both do."""

    def __init__(self) -> None:
        super().__init__(NAME, 1)
        self.cluster.create(f"{NAME}.tasks.{QUEUE}", 1)
        self.next_hook: Callable[[], None] = lambda: None

    def log(self, app: str) -> StagedLog:
        log = StagedLog(self.cluster, app, MemoryGroup(self.partitions))
        log.before_init, self.next_hook = self.next_hook, lambda: None
        return log


@dataclass
class Stage:
    """The rig, the site and the model of what was asked of it."""

    site: StagedSite = field(default_factory=StagedSite)
    expected: dict[str, Expected] = field(default_factory=dict)

    def __post_init__(self) -> None:
        received.clear()
        self.rig = Rig(app, self.site)

    # -- processes ---------------------------------------------------------------------------------------------------

    def engine(
        self, own_store: bool = False, before_init: Callable[[], None] | None = None, claims_back: bool = False
    ) -> Engine:
        """Start an engine; return when it owns the partition."""
        if before_init is not None:
            self.site.next_hook = once_only(before_init)
        options = EngineOptions(prove_s=0.5, hang_s=3.0, offer_again_s=600.0, claims_back=claims_back)
        engine = self.rig.engine(options, stores={} if own_store else None)
        self.owns(engine)
        return engine

    def owns(self, engine: Engine) -> None:
        """Wait until the engine owns the partition, or stands still for good."""
        wait_until(lambda: self.partition(engine).state is not State.RESTORING, "the partition is owned")

    @staticmethod
    def partition(engine: Engine) -> Partition:
        """The engine's partition. One that stopped is no longer listed."""
        wait_until(lambda: engine.partitions.get(0), "the partition is assigned")
        return engine.partitions[0]

    def had_its_turns(self) -> bool:
        """Whether no owner is at a careful turn: one that is asked to release leaves it to the next."""
        loops = [part._loop for engine in self.rig.engines for part in engine.partitions.values()]
        doubts = [loop.builder.careful for loop in loops if loop is not None]
        return not any(careful.waiting or careful.attempted for careful in doubts)

    def claims_of(self, engine: Engine) -> list[None]:
        """Grows whenever the engine's partition begins to work after a claim."""
        loop = self.partition(engine)._loop
        assert loop is not None
        begin = loop.begin
        begun: list[None] = []

        def counted() -> None:
            begin()
            begun.append(None)

        loop.begin = counted  # type: ignore[method-assign]
        return begun

    # -- callers -----------------------------------------------------------------------------------------------------

    def start(self, workflow: str, code: object, argument: int, result: int) -> str:
        """Start a run that must complete with `result`."""
        self.expected[workflow] = Expected(result)
        return self.rig.start(workflow, code, argument)

    def signal(self, workflow: str, value: int, command_id: str = "") -> str:
        """Put a signal on the topic, without waiting."""
        return self.rig.send(workflow, c.SignalWorkflow("go", Payload(data=str(value).encode())), command_id)

    # -- faults ------------------------------------------------------------------------------------------------------

    def at_next_commit(self, act: Callable[[], str]) -> threading.Event:
        """At the next commit with events call `act`, once, in the committing thread; set when it is over."""
        over = threading.Event()

        def hook(lane: str) -> str:
            if not self._open_events():
                return ""
            self.site.cluster.on_commit = lambda name: ""
            try:
                return act()
            finally:
                over.set()

        self.site.cluster.on_commit = hook
        return over

    def _open_events(self) -> bool:
        """Whether the open transaction holds more than a footer, which an idle owner commits at its own time."""
        with self.site.cluster.changed:
            entries = list(self.site.cluster.partition(f"{NAME}.events", 0).entries)
        codec = self.rig.codec
        found = (codec.decode_event(x.wire.key, x.wire.value).event for x in entries if x.state == OPEN)
        return any(not isinstance(event.body, BatchFooter) for event in found)

    def abort_open(self) -> None:
        """The hole: what is open is aborted, and the commit that follows returns OK."""
        cluster = self.site.cluster
        with cluster.changed:
            for name, known in cluster._transactional.items():
                cluster._end(name, known, ABORTED)
            cluster.changed.notify_all()

    def cut_last_batch(self) -> None:
        """The log loses its last batch, as by an unclean leader."""
        last = [batch for batch in self.rig.batches() if not batch.is_claim][-1]
        first = last.offset - len(last.records)
        with self.site.cluster.changed:
            del self.site.cluster.partition(f"{NAME}.events", 0).entries[first:]

    # -- judgement ---------------------------------------------------------------------------------------------------

    def judge(self, quiescent: bool = True, model: bool = True) -> Verdict:
        """The oracle over the topics as they are now."""
        acked = self.rig.acked if model else set()
        return check(
            self.rig.records("events"),
            self.rig.records("events", committed=False),
            LoadModel(self.expected if model else {}, acked),
            Evidence(
                self.rig.records("commands"),
                replies_of(self.rig.records("replies")[0]),
                list(received),
                quiescent=quiescent,
                ends=self.rig.site.ends(f"{self.rig.app.name}.events"),
                dumps=self._dumps() if quiescent and model else {},
                effects=("add",) if model else (),
            ),
        )

    def _dumps(self) -> dict[int, Dumps]:
        """The first engine's state, beside what the log says up to there. What a gap cuts off means no state."""
        events = self.rig.records("events")
        with contextlib.suppress(LogGap):
            return {
                n: dumps(one, self.rig.codec, Settings(self.rig.app.name), events[n])
                for n, one in self.rig.stores.items()
            }
        return {}

    def close(self) -> None:
        """End every engine."""
        self.site.cluster.on_commit = lambda name: ""
        self.rig.close()


def once_only(act: Callable[[], None]) -> Callable[[], None]:
    """`act` at the first call, nothing after that."""
    left = [act]
    return lambda: left.pop()() if left else None
