"""One lane re-initialised alone, on a real broker: the same interleaving as in memory, with Kafka's own fencing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine import sabotage
from orchestrator.engine.run import Engine
from orchestrator.log.lanes import KafkaLanes
from tests.engine.rig import KafkaSite, Rig
from tests.oracle.verdict import LOST_WRITE

from . import stage as staging
from .scenarios import SCENARIOS
from .stage import Stage

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

pytestmark = pytest.mark.broker
SWITCH = "one_lane_reinitialised"


class KafkaStage(Stage):
    """A stage on a broker. A commit is held in its engine: the broker has no place to hold it."""

    def __init__(self, app: str, bootstrap: str) -> None:
        self.expected = {}
        staging.received.clear()
        self.rig = Rig(staging.app, KafkaSite(app, bootstrap, 1))

    def at_next_commit(self, act: Callable[[], str]) -> threading.Event:
        engine = self.rig.engines[-1]
        loop, lanes = self.partition(engine)._loop, self._lanes(engine)
        assert loop is not None
        over, commit = threading.Event(), lanes.commit

        def hooked() -> None:
            assert loop is not None
            if loop._open is not None and loop._open.records:
                lanes.commit = commit  # type: ignore[method-assign]
                act()
                over.set()
            commit()

        lanes.commit = hooked  # type: ignore[method-assign]
        return over

    def close(self) -> None:
        self.rig.close()

    def _lanes(self, engine: Engine) -> KafkaLanes:
        loop = self.partition(engine)._loop
        assert loop is not None
        lanes = loop.ground.lanes
        assert isinstance(lanes, KafkaLanes)
        return lanes


@pytest.fixture
def stage(kafka: DevKafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    name = f"sabotaged-{uuid.uuid4().hex[:6]}"
    monkeypatch.setattr(staging.app, "name", name)
    made = KafkaStage(name, kafka.bootstrap)
    try:
        yield made
    finally:
        made.close()
        sabotage.install()


def test_the_oracle_names_what_one_lane_alone_does(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    scenario, anomaly = SCENARIOS[SWITCH]
    sabotage.install(SWITCH)
    verdict = scenario(stage)
    # The zombie may find the other's record before it does harm: it stands still then, and nobody ends the run.
    stands = "a record that this owner did not write" in caplog.text
    assert verdict.names & ({anomaly, LOST_WRITE} if stands else {anomaly}), verdict.text()


def test_with_every_lane_the_same_acts_are_clean(stage: Stage) -> None:
    scenario, _ = SCENARIOS[SWITCH]
    verdict = scenario(stage)
    assert not verdict.anomalies, verdict.text()
    assert verdict.totals["batches"]
