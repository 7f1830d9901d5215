"""An engine whose clock is far from the brokers' decides nothing: it releases what it claimed, and says why."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.core.replay import Batch
from orchestrator.engine import partition as partition_module
from orchestrator.engine.clock import SystemClock
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from tests.engine.rig import MemorySite, Rig, until

Make = Callable[[Orchestrator], Rig]


class WrongClock(SystemClock):
    """The machine's clock, and how far off it is set, to a few hundred milliseconds: no two figures are alike."""

    def __init__(self, off_ms: int) -> None:
        self.off_ms = off_ms
        self._drift = itertools.cycle(range(0, 700, 70))

    def wall_ms(self) -> int:
        return super().wall_ms() + (self.off_ms and self.off_ms + next(self._drift))


def an_app() -> tuple[Orchestrator, Any]:
    app = Orchestrator("skew")

    @app.step
    def say() -> str:
        return "said"

    @app.workflow
    async def talk() -> str:
        return await say()

    return app, talk


def all_in(engine: Engine, state: State, count: int) -> bool:
    found = [partition.state for partition in engine.partitions.values()]
    return len(found) == count and set(found) == {state}


@pytest.mark.parametrize("off_ms", [3_600_000, -3_600_000], ids=["ahead", "behind"])
def test_a_skewed_engine_releases_its_partitions_and_goes_on_when_the_clock_is_right(
    rig: Make, off_ms: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(partition_module, "SKEW_RETRY_S", 0.2)
    app, talk = an_app()
    one, clock = rig(app), WrongClock(off_ms)
    engine = one.engine(clock=clock)
    until(lambda: len(one.bodies(e.PartitionReleased)) >= 4 * one.site.partitions)
    until(lambda: all_in(engine, State.PARKED, one.site.partitions))
    problems = {partition.problem for partition in engine.partitions.values()}
    said = re.compile(rf"3(599|600)\.\d s {'ahead of' if off_ms > 0 else 'behind'} the brokers'")
    assert all(said.search(problem) for problem in problems), problems
    assert not engine.health().ready
    # What the wrong clock says never became the log's time.
    assert all(abs(batch.footer.event.body.now_ms - SystemClock().wall_ms()) < 600_000 for batch in footers(one))
    told = [line for line in caplog.messages if "Set the clocks right" in line]
    assert len(told) == one.site.partitions, "once each, however often it is tried again"
    clock.off_ms = 0
    one.start("talk-1", talk)
    assert one.result("talk-1") == b'"said"'


def test_a_release_that_fails_does_not_keep_the_partition_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker loses the commit of the release: the engine, or another, claims again all the same."""
    monkeypatch.setattr(partition_module, "SKEW_RETRY_S", 0.2)
    app, talk = an_app()
    one, clock = Rig(app, MemorySite(app.name, 1)), WrongClock(3_600_000)
    committed: list[str] = []

    def verdict(lane: str) -> str:
        committed.append(lane)
        return "lost" if len(committed) == 2 else ""

    one.cluster.on_commit = verdict
    try:
        one.engine(clock=clock)
        until(lambda: len(committed) > 2)
        clock.off_ms = 0
        one.start("talk-1", talk)
        assert one.result("talk-1") == b'"said"'
    finally:
        one.close()


def footers(one: Rig) -> list[Batch]:
    return [batch for batch in one.batches() if not batch.is_claim]


def test_a_clock_within_the_bound_is_no_matter(rig: Make) -> None:
    one = rig(an_app()[0])
    engine = one.engine(clock=WrongClock(4_000))
    until(lambda: all_in(engine, State.OWNED, one.site.partitions))
    skews = [partition._loop.ground.skew.ms for partition in engine.partitions.values() if partition._loop]
    assert all(0 < skew < 4_700 for skew in skews), skews
