"""What leaves the state as the log's clock goes on: closed runs after their retention, answers after their horizon."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.rows import DEDUP, FAMILIES, HISTORY, INDEX, META, OUTBOX, RUNS, STEPS, TIMERS
from orchestrator.core.values import Payload
from orchestrator.engine.options import EngineOptions
from orchestrator.testing.clock import SkippingClock
from tests.engine.rig import PATIENCE_S, Rig

Make = Callable[[Orchestrator], Rig]

DAY_S = 86_400

app = Orchestrator("retention")
go = app.signal("go", int)


@app.step
async def double(x: int) -> int:
    return 2 * x


@app.workflow
async def doubles(x: int) -> int:
    return await double(x)


@app.workflow
async def waits() -> int:
    return await go.wait()


class Bench:
    """A rig and its clock."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.clock = SkippingClock()
        rig.engine(clock=self.clock)

    def skip(self, days: float) -> None:
        """Let time pass, and commit a footer on every partition after it."""
        self.clock.skip(days * DAY_S)
        # Forwarded from the wrong partition, decided on the right one: a batch on each.
        ticks = [self.rig.send("nobody", c.SignalWorkflow("tick"), partition=number) for number in range(2)]
        for tick in ticks:
            assert self.rig.answers(tick), "a tick was not decided"

    def rows(self, family: str, workflow: str = "w") -> list[Any]:
        """Keys of a family that name a workflow, as they were written to the stores."""
        return [key for store in self.rig.stores.values() for key, _ in store.scan(family, ()) if workflow in key]

    def until_gone(self, family: str, workflow: str = "w") -> None:
        """Wait until a family holds nothing of a workflow."""
        for _ in range(int(PATIENCE_S / 0.02)):
            if not self.rows(family, workflow):
                return
            self.rig.site.wait(0.02)
        raise AssertionError(self.rows(family, workflow))


@pytest.fixture
def bench(rig: Make) -> Bench:
    return Bench(rig(app))


def test_a_closed_run_leaves_the_state_after_its_retention_and_the_log_keeps_it(bench: Bench) -> None:
    one = bench.rig
    one.start("w", doubles, 4)
    one.start("open", waits)
    assert one.result("w") == b"8"
    bench.skip(29)
    assert one.result("w") == b"8"
    assert bench.rows(HISTORY)
    bench.skip(2)
    one.wait_for(e.RunPurged, "w")
    for family in (RUNS, HISTORY, INDEX, TIMERS, STEPS):
        bench.until_gone(family)
    assert one.ask("w", c.QueryWorkflow("describe")).code == "not_found"
    assert one.ask("w", c.SignalWorkflow("go")).code == "not_found"
    assert "RunCompleted" in one.kinds("w")
    one.signal("open", "go", b"1")
    assert one.result("open") == b"1"
    # The id is as good as new.
    one.start("w", doubles, 5, reuse="reject")
    assert one.result("w") == b"10"


def test_an_old_run_s_end_leaves_the_newest_run_alone(bench: Bench) -> None:
    one = bench.rig
    one.start("w", doubles, 1)
    assert one.result("w") == b"2"
    bench.skip(20)
    one.start("w", doubles, 2)
    assert one.result("w") == b"4"
    bench.skip(11)
    [purged] = one.wait_for(e.RunPurged, "w")
    assert purged is not None
    assert one.result("w") == b"4"
    runs = [event.run_id for event in one.events("w") if isinstance(event.body, e.RunStarted)]
    assert one.ask("w", c.QueryWorkflow("describe", runs[0])).code == "not_found"
    assert json.loads(one.ask("w", c.QueryWorkflow("describe")).result.data)["run_id"] == runs[1]


def test_a_duplicate_is_known_within_its_horizon_and_decided_anew_after_it(bench: Bench) -> None:
    one = bench.rig
    one.start("w", waits)
    body = c.SignalWorkflow("other", Payload(data=b"1"))
    one.accepted("w", body, "the-id")
    bench.skip(13)
    first, again = (one.answers(one.send("w", body, "the-id"), 2 + n)[-1] for n in range(2))
    assert first == again
    assert len(one.bodies(e.SignalReceived, "w")) == 1
    bench.skip(2)
    bench.skip(0)
    one.send("w", body, "the-id")
    one.wait_for(e.SignalReceived, "w", 2)


def test_answers_leave_the_state_by_the_footers_clock_live_and_restored_alike(rig: Make) -> None:
    one, clock = rig(app), SkippingClock()
    bench = Bench(one)
    bench.clock = clock
    options = EngineOptions(dedup_horizon_ms=60_000)
    one.engines.pop().stop(1.0)
    engine = one.engine(options, clock=clock)
    one.start("w", doubles, 4)
    one.result("w")
    assert len(bench.rows(DEDUP)) == 2, "the answer, and when it expires"
    clock.skip(61)
    one.start("v", doubles, 1)
    one.result("v")
    bench.skip(0)
    bench.until_gone(DEDUP)
    engine.stop(1.0)
    lived = {number: _content(store) for number, store in one.stores.items()}
    one.stores.clear()
    # Long after: the machine's clock has no part in it.
    clock.skip(30)
    last = one.engine(options, clock=clock)
    assert one.result("v") == b"2"
    last.stop(1.0)
    restored = {number: _content(store) for number, store in one.stores.items()}
    assert restored == lived


def _content(store: Any) -> dict[str, list[Any]]:
    """Every row but those of the partition itself, which the next owner's claim and footer changed."""
    return {family: list(store.scan(family, ())) for family in FAMILIES if family not in (META, OUTBOX)}
