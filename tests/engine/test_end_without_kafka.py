"""Processes whose broker is gone end, all the same, within their grace time and a limit; they say what they left."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.core import commands as c, events as e
from orchestrator.devkafka import DevKafka
from orchestrator.ending import ABANDONED, AS_AFTER_A_CRASH
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics
from orchestrator.worker.loading import load_app
from tests.engine.rig import KafkaSite, Rig
from tests.worker.processes import APP, Process, began
from tests.worker.rig import until

pytestmark = pytest.mark.broker

PARTITIONS = 2
QUEUE = "held"


class Shop:
    """An application on a broker that may be lost, and the processes that serve it."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.name = f"end-{uuid.uuid4().hex[:8]}"
        self.folder = folder / self.name
        self.folder.mkdir()
        self._bootstrap = bootstrap
        code = load_app(APP)
        code.name = self.name
        self.rig = Rig(code, KafkaSite(self.name, bootstrap, PARTITIONS))
        init_topics(LogConfig(self.name, bootstrap), PARTITIONS, [QUEUE])
        self.processes: list[Process] = []

    def process(self, consumer: str) -> Process:
        """Start an engine, or a worker."""
        number = len(self.processes)
        environment = {
            "ORCHESTRATOR_APP": APP,
            "ORCHESTRATOR_APP_NAME": self.name,
            "ORCHESTRATOR_BOOTSTRAP": self._bootstrap,
            "ORCHESTRATOR_STATE_DIR": str(self.folder / f"state-{number}"),
            "ORCHESTRATOR_QUEUES": QUEUE,
            "ORCHESTRATOR_GRACE_S": "1",
        }
        self.processes.append(Process(consumer, self.folder / f"{consumer}-{number}.log", environment))
        return self.processes[-1]

    def start(self, workflow: str, run: str, **arguments: str) -> None:
        """Start a run of one step that is held until a file is there, and see it begin."""
        code = self.rig.app.registry.workflow(workflow, 0)
        given = code.signature.bind((), {"folder": str(self.folder), "name": run, **arguments})
        self.rig.accepted(run, c.StartWorkflow(workflow, given))

    def let_go(self, step: str) -> None:
        """Let a step end."""
        (self.folder / f"{step}.go").touch()


@pytest.fixture
def broker() -> Iterator[DevKafka]:
    """One of our own: it is lost."""
    started = DevKafka.start()
    try:
        yield started
    finally:
        started.nodes[0].resume()
        started.stop()


@pytest.fixture
def shops(broker: DevKafka, tmp_path: Path) -> Iterator[list[Shop]]:
    made = [Shop(broker.bootstrap, tmp_path) for _ in range(2)]
    yield made
    broker.nodes[0].resume()
    for shop in made:
        for process in shop.processes:
            process.kill()
        shop.rig.close()


def test_processes_end_when_their_broker_answers_nothing(broker: DevKafka, shops: list[Shop]) -> None:
    """An engine, a worker with an outcome that nobody takes, and an engine that is told twice. Then Kafka is back."""
    shop, other = shops
    engine, worker, hasty = shop.process("engine"), shop.process("worker"), other.process("engine")
    shop.start("local", "inside", on_crash="retry")
    shop.start("holds", "outside", queue=QUEUE, on_crash="retry", cancellation="try")
    other.start("local", "elsewhere", on_crash="retry")
    for one, step in ((shop, "inside-0"), (shop, "inside-1"), (shop, "outside"), (other, "elsewhere-0")):
        began(one.folder, step)
    broker.nodes[0].pause()
    shop.let_go("outside")
    until(lambda: "ended" in (shop.folder / "outside").read_text(encoding="utf-8"), "the end of the worker's step")
    for process in (hasty, engine, worker):
        process.signal(signal.SIGTERM)
    hasty.until_said("ending: what runs may finish within 1 s, all of it takes 16 s at most")
    hasty.signal(signal.SIGTERM)
    assert hasty.wait() == ABANDONED
    assert f"a second signal came while partitions were to be released: this process ends here, {AS_AFTER_A_CRASH}" in (
        hasty.said
    )
    assert (engine.wait(), worker.wait()) == (ABANDONED, ABANDONED)
    assert f"partitions 0, 1 were not released, {AS_AFTER_A_CRASH}" in engine.said
    assert "was taken by nobody: as if its worker had crashed" in worker.said

    broker.nodes[0].resume()
    shop.process("engine"), shop.process("worker")
    shop.let_go("inside-0"), shop.let_go("inside-1")
    for run in ("inside", "outside"):
        assert shop.rig.result(run)
        assert len(shop.rig.bodies(e.RunCompleted, run)) == 1
    assert len(shop.rig.bodies(e.StepCompleted)) == 3
