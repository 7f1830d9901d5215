"""The load that the invariants are tested under: runs with steps in sequence and at once, a timer, signals, retries."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from orchestrator import Orchestrator, step_info
from orchestrator.core.apply.fold import Settings
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.run import Engine
from orchestrator.store.rows import state_hash
from tests.engine.dumps import dumps
from tests.engine.rig import KafkaSite, MemorySite, Rig, Site
from tests.oracle.oracle import (
    Dumps,
    Evidence,
    Expected,
    LoadModel,
    Receipt,
    SentSignal,
    StatePosition,
    check,
    replies_of,
)
from tests.oracle.verdict import Verdict

RUNS = 6
EFFECTS = ("add", "held")


class Load(Rig):
    """A rig whose application does a bit of everything; `receipts` is what an outside receiver wrote down."""

    def __init__(self, name: str, make_site: Callable[[str], Site]) -> None:
        super().__init__(Orchestrator(name), make_site(name))
        self.receipts: list[str] = []
        self.effects: dict[str, int] = {}
        self.expected: dict[str, Expected] = {}
        self.hold = threading.Event()
        self.hold.set()
        self._lock = threading.Lock()
        self._define()

    def _define(self) -> None:
        app = self.app
        go = app.signal("go", int)

        @app.step(name="add")
        async def add(x: int) -> int:
            """A step with an effect outside: its receiver keeps the first by key."""
            self._receive(x)
            return x + 1

        @app.step(name="held")
        def held(x: int) -> int:
            """A step that waits until the test lets go."""
            self._receive(x)
            self.hold.wait(20)
            return x

        @app.step(name="broken", retry=1)
        async def broken() -> int:
            raise RuntimeError("a bug in a step")

        @app.workflow(name="work")
        async def work(n: int) -> int:
            """`n` steps one by one, `n` at once, a timer, two signals."""
            total = 0
            for x in range(n):
                total += await add(x)
            total += sum(await asyncio.gather(*(add(x) for x in range(n))))
            await asyncio.sleep(0.02)
            return total + await go.wait() - await go.wait()

        @app.workflow(name="naps")
        async def naps(naps: int, ms: int) -> int:
            for _ in range(naps):
                await asyncio.sleep(ms / 1000)
            return naps

        @app.workflow(name="holds")
        async def holds(x: int) -> int:
            return await held(x)

        @app.workflow(name="collects")
        async def collects(n: int) -> list[int]:
            return [await go.wait() for _ in range(n)]

        @app.workflow(name="breaks")
        async def breaks() -> int:
            return await broken()

        self.work, self.naps, self.holds, self.collects, self.breaks = work, naps, holds, collects, breaks

    def _receive(self, x: int) -> None:
        with self._lock:
            self.receipts.append(step_info().idempotency_key)
            self.effects.setdefault(step_info().idempotency_key, x)

    # -- the load ----------------------------------------------------------------------------------------------------

    def begin(self, number: int) -> str:
        """Start a `work` run and send its signals; its workflow id."""
        workflow, n = f"w{number}", number % 3 + 1
        self.start(workflow, self.work, n)
        signals = tuple(SentSignal(self.signal(workflow, "go", b"%d" % value), "test") for value in (1_000, 1))
        steps = 2 * sum(range(1, n + 1))
        self.expected[workflow] = Expected(steps + 999, 2 * n, "completed", signals)
        return workflow

    def run(self, runs: int = RUNS) -> None:
        """The whole load, to its end."""
        names = [self.begin(number) for number in range(len(self.expected), len(self.expected) + runs)]
        for workflow in names:
            assert int(self.result(workflow)) == self.expected[workflow].result

    def fail_commits(self, seed: int, rate: float = 0.08) -> None:
        """From now on commits fail at random, before or after they took effect. In memory only."""
        if isinstance(self.site, MemorySite):
            rng = random.Random(seed)
            self.cluster.on_commit = lambda name: rng.choice(("lost", "unknown")) if rng.random() < rate else ""

    def heal(self) -> None:
        """Commits work again."""
        if isinstance(self.site, MemorySite):
            self.cluster.on_commit = lambda name: ""

    def take_over(self, engine: Engine, grace_s: float = 1.0, **options: Any) -> Engine:
        """Another process with empty directories takes the place of `engine`."""
        engine.stop(grace_s)
        self.stores.clear()
        return self.engine(EngineOptions(**options))

    # -- judgement ---------------------------------------------------------------------------------------------------

    def judge(self) -> Counter[str]:
        """What the oracle says of the raw topics must be clean; its totals. Engines must have ended."""
        verdict = self.verdict()
        assert not verdict.anomalies, verdict.text()
        return verdict.totals

    def verdict(self) -> Verdict:
        """What the oracle says of the raw topics. Engines must have ended."""
        state = {}
        for batch in self.batches():
            if not batch.is_claim:
                number = batch.footer.event.body.position.partition  # type: ignore[union-attr]
                state[number] = StatePosition(batch.offset + 1, batch.footer.hash)
        return check(
            self.records("events"),
            self.records("events", committed=False),
            LoadModel(self.expected, self.acked),
            Evidence(
                commands=self.records("commands"),
                replies=replies_of(self.records("replies")[self.site.reply_to.partition]),
                receipts=[Receipt(key) for key in self.receipts],
                state=state,
                ends=self.site.ends(f"{self.app.name}.events"),
                dumps=self.dumps(),
                effects=EFFECTS,
            ),
        )

    def dumps(self) -> dict[int, Dumps]:
        """What the engines left, beside the fold of the log."""
        events, settings = self.records("events"), Settings(self.app.name)
        return {number: dumps(store, self.codec, settings, events[number]) for number, store in self.stores.items()}

    def hashes(self) -> dict[int, bytes]:
        """The hash of every partition's state."""
        return {number: state_hash(store) for number, store in self.stores.items()}


__all__ = ["RUNS", "KafkaSite", "Load", "MemorySite"]
