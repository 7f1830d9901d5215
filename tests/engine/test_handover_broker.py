"""A deploy interrupts no step that ends within the grace time: two engine processes, a real broker, KIP-848 members."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.core import commands as c, events as e
from orchestrator.devkafka import DevKafka
from orchestrator.engine import handed_over
from orchestrator.worker.loading import load_app
from tests.engine.rig import KafkaSite, Rig
from tests.worker.processes import APP, Process, began, notes
from tests.worker.rig import until

pytestmark = pytest.mark.broker

PARTITIONS = 2
GRACE_S = 9
ASKED = 3 * handed_over.ASKS_A_WINDOW + 1
"""How often one is asked about while three windows pass."""


class Deploy:
    """An application whose engines are replaced."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.folder = folder
        self.name = f"deploy-{uuid.uuid4().hex[:8]}"
        self._bootstrap = bootstrap
        self.code = load_app(APP)
        self.code.name = self.name
        self.rig = Rig(self.code, KafkaSite(self.name, bootstrap, PARTITIONS))
        self.engines: list[Process] = []

    def engine(self, grace_s: float = 60) -> Process:
        """Start one more."""
        number = len(self.engines)
        started = Process(
            "engine",
            self.folder / f"engine-{number}.log",
            {
                "ORCHESTRATOR_APP": APP,
                "ORCHESTRATOR_APP_NAME": self.name,
                "ORCHESTRATOR_BOOTSTRAP": self._bootstrap,
                "ORCHESTRATOR_STATE_DIR": str(self.folder / f"state-{number}"),
                "ORCHESTRATOR_GRACE_S": str(grace_s),
            },
        )
        self.engines.append(started)
        return started

    def owners(self) -> set[int]:
        """Process ids of the owners: who claimed each partition last."""
        last = {}
        for number, records in self.rig.records("events").items():
            for raw in records:
                body = self.rig.codec.decode_event(raw.key, raw.value).event.body
                if isinstance(body, e.PartitionClaimed):
                    last[number] = int(body.instance.split("/")[1])
        return set(last.values())

    def start(self, name: str, on_crash: str) -> str:
        """Start a run of two local steps."""
        code = self.code.registry.workflow("local", 0)
        arguments = code.signature.bind((str(self.folder), name, on_crash), {})
        self.rig.accepted(name, c.StartWorkflow("local", arguments))
        return name


@pytest.fixture
def deploy(kafka: DevKafka, tmp_path: Path) -> Iterator[Deploy]:
    made = Deploy(kafka.bootstrap, tmp_path)
    yield made
    for engine in made.engines:
        engine.kill()
    made.rig.close()


def test_a_deploy_interrupts_no_step_that_ends_within_the_grace_time(deploy: Deploy) -> None:
    one = deploy.rig
    old = deploy.engine()
    runs = [deploy.start(f"{on_crash}{n}", on_crash) for on_crash in ("retry", "park") for n in range(3)]
    steps = [f"{run}-{n}" for run in runs for n in range(2)]
    for step in steps:
        assert began(deploy.folder, step)[0].pid == old.pid
    new = deploy.engine()
    until(lambda: new.pid in deploy.owners(), "the new engine's first claim")
    old.signal(signal.SIGTERM)
    until(lambda: deploy.owners() == {new.pid}, "the new engine's last claim")
    for step in steps:
        (deploy.folder / f"{step}.go").touch()
    for run in runs:
        assert one.result(run) == f'"{run}-0 by attempt 1, {run}-1 by attempt 1"'.encode()
    assert old.wait() == 0, old.said
    for step in steps:
        assert [(note.what, note.pid) for note in notes(deploy.folder, step)] == [
            ("began", old.pid),
            ("ended", old.pid),
        ]
    assert len(one.bodies(e.StepCompleted)) == len(steps)
    assert {body.attempt for body in one.bodies(e.StepHandedOver)} == {1}
    assert len(one.bodies(e.StepHandedOver)) >= len(steps)
    assert one.bodies(e.StepInterrupted) == one.bodies(e.StepAttemptFailed) == one.bodies(e.StepParked) == []


def test_a_run_is_cancelled_while_its_steps_are_handed_over(deploy: Deploy) -> None:
    """They run on in their old engine, within its grace time: the run ends at once, late outcomes change nothing."""
    one = deploy.rig
    old = deploy.engine()
    run = deploy.start("left", "retry")
    began(deploy.folder, "left-0")
    began(deploy.folder, "left-1")
    new = deploy.engine()
    old.signal(signal.SIGTERM)
    until(lambda: deploy.owners() == {new.pid}, "the new engine's claims")
    one.accepted(run, c.CancelWorkflow())
    assert one.outcome(run).code == "cancelled"
    for step in ("left-0", "left-1"):
        (deploy.folder / f"{step}.go").touch()
    assert old.wait() == 0, old.said
    until(lambda: len(one.bodies(e.CommandRejected, run)) == 2, "two late outcomes on record")
    assert {body.code for body in one.bodies(e.CommandRejected, run)} == {"stale_attempt"}


def test_a_step_is_carried_on_for_longer_than_the_grace_time_by_an_engine_that_lives(deploy: Deploy) -> None:
    """Another engine came and took half of the partitions: the old one asks its steps' new owner, and hears from it."""
    one = deploy.rig
    old = deploy.engine(GRACE_S)
    runs = [deploy.start(f"{on_crash}{n}", on_crash) for on_crash in ("retry", "fail") for n in range(4)]
    for run in runs:
        began(deploy.folder, f"{run}-0")
        began(deploy.folder, f"{run}-1")
    new = deploy.engine(GRACE_S)
    until(lambda: deploy.owners() == {old.pid, new.pid}, "the new engine's claim")
    moved = [run for run in runs if one.bodies(e.StepHandedOver, run)]
    assert len(moved) >= 2
    until(lambda: questions(one, moved[0]) >= 2 * ASKED, "three windows to pass")
    one.accepted(moved[1], c.CancelWorkflow())
    until(lambda: notes(deploy.folder, f"{moved[1]}-0")[-1].what == "cancelled", "the old engine to be told")
    for run in runs:
        if run != moved[1]:
            (deploy.folder / f"{run}-0.go").touch()
            (deploy.folder / f"{run}-1.go").touch()
            assert one.result(run) == f'"{run}-0 by attempt 1, {run}-1 by attempt 1"'.encode()
    for run in moved:
        for step in (f"{run}-0", f"{run}-1"):
            assert [note.pid for note in notes(deploy.folder, step)] == [old.pid] * 2, "begun once, where it began"
    assert one.bodies(e.StepInterrupted) == one.bodies(e.StepAttemptFailed) == []


def questions(one: Rig, workflow: str) -> int:
    """How often the carrier of a run's two steps asked about them."""
    records = (raw for part in one.records("commands").values() for raw in part if raw.key == workflow.encode())
    bodies = [one.codec.decode_command(raw.value).body for raw in records]
    return sum(isinstance(body, c.QueryWorkflow) and body.kind == handed_over.KIND for body in bodies)
