"""Wall clocks jump and strobe under load: nothing is lost, nothing happens twice, no timer fires early by the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from orchestrator.engine import partition as partition_module
from orchestrator.testing.memory_cluster import MemoryCluster
from tests.chaos import mixed_app
from tests.engine.rig import MemorySite, Rig, kill, until
from tests.faults.clocks import KINDS, JumpingClock
from tests.oracle.oracle import Evidence, Expected, LoadModel, SentSignal, check, replies_of

pytestmark = pytest.mark.slow

RUNS = 6


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """The mixed load's application in memory; a partition that was released for its clock is soon looked at again."""
    monkeypatch.setattr(partition_module, "SKEW_RETRY_S", 0.05)
    rig = Rig(mixed_app.app, MemorySite(mixed_app.app.name))
    assert isinstance(rig.cluster, MemoryCluster)
    yield rig
    rig.close()


def feed(one: Rig, first: int) -> dict[str, Expected]:
    """Runs, their signals and updates, and what each comes to."""
    expected: dict[str, Expected] = {}
    for number in range(first, first + RUNS):
        workflow, values = f"w{number}", (number, 2 * number)
        one.start(workflow, mixed_app.mixed, workflow, 2, 100)
        signals = [SentSignal(one.signal(workflow, "go", b"%d" % value)) for value in values]
        expected[workflow] = Expected(mixed_app.result_of(2, 7, values), mixed_app.steps_of(2), signals=signals)
        expected[workflow + mixed_app.CHILD] = Expected(mixed_app.CHILD_RESULT, mixed_app.CHILD_STEPS)
    return expected


def update(one: Rig, workflow: str) -> None:
    """As a caller does it: again, with the same id, until it is taken."""
    while True:
        reply = one.ask(workflow, c.UpdateWorkflow("bump", Payload(data=b"7")), f"bump-{workflow}")
        if reply.outcome != "not_ready":
            assert reply.outcome == "accepted", reply
            return
        one._replies.pop(f"bump-{workflow}")


def has_jumped(clock: JumpingClock) -> bool:
    """Whether it was set anew: looking at it may do it."""
    return bool(clock.wall_ms() and clock.jumps.total())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_jumping_clocks_cost_nothing(one: Rig, kind: str, seed: int) -> None:
    clocks = [JumpingClock(kind, seed + number, 0.03) for number in range(2)]
    first = one.engine(clock=clocks[0])
    expected = feed(one, 0)
    until(lambda: has_jumped(clocks[0]))
    kill(first)
    second = one.engine(clock=clocks[1])
    expected |= feed(one, RUNS)
    for workflow in expected:
        if not workflow.endswith(mixed_app.CHILD):
            update(one, workflow)
    for workflow, model in expected.items():
        assert int(one.result(workflow)) == model.result, workflow
    until(lambda: has_jumped(clocks[1]))
    clocks[1].set_right()
    second.stop(5.0)
    verdict = check(
        one.records("events"),
        one.records("events", committed=False),
        LoadModel(expected, one.acked),
        Evidence(one.records("commands"), replies_of(raw for part in one.records("replies").values() for raw in part)),
    )
    assert not verdict.anomalies, verdict.text()
    assert verdict.totals["completed"] == len(expected)
