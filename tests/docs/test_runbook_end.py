"""The runbook's end without Kafka: engines and workers whose broker is gone end, and say what they left."""

from __future__ import annotations

import copy
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.core import commands as c, events as e
from orchestrator.devkafka import DevKafka
from orchestrator.ending import ABANDONED, AS_AFTER_A_CRASH
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics
from orchestrator.worker.loading import load_app
from tests.docs.conftest import Place
from tests.docs.runbook import Entry
from tests.engine.rig import KafkaSite, Rig
from tests.worker.processes import APP, Process, began, notes
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
        code = copy.copy(load_app(APP))
        code.name = self.name
        self.rig = Rig(code, KafkaSite(self.name, bootstrap, PARTITIONS))
        init_topics(LogConfig(self.name, bootstrap), PARTITIONS, [QUEUE])
        self.processes: list[Process] = []
        self.settings = {"APP": APP, "APP_NAME": self.name, "BOOTSTRAP": bootstrap, "QUEUES": QUEUE, "GRACE_S": "1"}

    def process(self, consumer: str) -> Process:
        """Start an engine, or a worker."""
        at = self.folder / f"{consumer}-{len(self.processes)}"
        settings = {**self.settings, "STATE_DIR": str(at)}
        environment = {f"ORCHESTRATOR_{name}": value for name, value in settings.items()}
        self.processes.append(Process(consumer, at.with_suffix(".log"), environment))
        return self.processes[-1]

    def engine(self) -> Process:
        """Start an engine, and see it own everything."""
        started = self.process("engine")
        for number in range(PARTITIONS):
            started.until_said(f"partition {number}: claim ")
        return started

    def start(self, workflow: str, run: str, **arguments: str) -> None:
        """Start a run of one step, or two, that are held until a file is there."""
        given = self.rig.app.registry.workflow(workflow, 0).signature.bind(
            (), {"folder": str(self.folder), "name": run, "on_crash": "retry", **arguments}
        )
        self.rig.accepted(run, c.StartWorkflow(workflow, given))

    def let_go(self, *steps: str) -> None:
        """Let steps end."""
        for step in steps:
            (self.folder / f"{step}.go").touch()


@pytest.fixture
def broker() -> Iterator[DevKafka]:
    """One of the test's own, for it is lost."""
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
            print(process.said)
        shop.rig.close()


@pytest.fixture
def page(
    shops: list[Shop], broker: DevKafka, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], Entry]:
    """The page's command lines, about the first shop."""
    for name, value in shops[0].settings.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)
    place = Place(broker, shops[0].folder, capfd)
    place.app = shops[0].name
    return place.page


def test_processes_end_when_no_broker_answers(
    page: Callable[[str], Entry], broker: DevKafka, shops: list[Shop]
) -> None:
    """An engine, a worker with an outcome that nobody takes, and an engine that is told twice. Then Kafka is back."""
    ended = page("An end without Kafka")
    shop, other = shops
    worker, engine, hasty = shop.process("worker"), shop.engine(), other.engine()
    shop.start("local", "inside")
    shop.start("holds", "outside", queue=QUEUE, cancellation="try")
    other.start("local", "elsewhere")
    for one, step in ((shop, "inside-0"), (shop, "inside-1"), (shop, "outside"), (other, "elsewhere-0")):
        began(one.folder, step)
    broker.nodes[0].pause()
    shop.let_go("outside")
    until(lambda: "ended" in [note.what for note in notes(shop.folder, "outside")], "the end of the worker's step")
    for process in (hasty, engine, worker):
        process.signal(signal.SIGTERM)
    hasty.until_said("ending: what runs may finish within 1 s, all of it takes 16 s at most")
    hasty.signal(signal.SIGTERM)
    assert "no Kafka answers" in ended("orchestrator doctor", code=1)
    assert [process.wait() for process in (hasty, engine, worker)] == [ABANDONED] * 3
    assert "a second signal came while " in hasty.said
    assert f": this process ends here, {AS_AFTER_A_CRASH}" in hasty.said
    assert f"partitions 0, 1 were not released, {AS_AFTER_A_CRASH}" in engine.said
    assert "the group was not left within" in engine.said
    assert "was taken by nobody: as if its worker had crashed" in worker.said

    broker.nodes[0].resume()
    shop.process("worker"), shop.engine()
    shop.let_go("inside-0", "inside-1")
    for run in ("inside", "outside"):
        assert shop.rig.result(run)
        assert len(shop.rig.bodies(e.RunCompleted, run)) == 1
    assert len(shop.rig.bodies(e.StepCompleted)) == 3
    assert "every partition is answered for" in ended("orchestrator doctor")
    ended("orchestrator audit verify")
