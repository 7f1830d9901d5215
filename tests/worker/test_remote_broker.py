"""Engine and workers as real processes on a real broker: steps on queues, and what happens when workers go away."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.devkafka import DevKafka
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics
from orchestrator.worker.loading import load_app
from tests.engine.rig import KafkaSite, Rig

from .processes import APP, Note, Process, began, notes
from .rig import until

pytestmark = pytest.mark.broker

PARTITIONS = 2
QUEUES = tuple(f"q{number}" for number in range(21))


class Stage:
    """One application with one engine; every test has a queue, workers and a folder of its own."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.name = f"remote-{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.bootstrap = bootstrap
        self.code = load_app(APP)
        self.code.name = self.name
        self.rig = Rig(self.code, KafkaSite(self.name, bootstrap, PARTITIONS))
        init_topics(LogConfig(self.name, bootstrap), PARTITIONS, QUEUES)
        self._queues = iter(QUEUES)
        self._processes: list[Process] = []
        self.engine = self.process("engine", ORCHESTRATOR_STATE_DIR=str(folder / "state"))

    def process(self, consumer: str, **environ: str) -> Process:
        """Start an engine or a worker of the application."""
        started = Process(
            consumer,
            self.folder / f"{consumer}-{len(self._processes)}.log",
            {
                "ORCHESTRATOR_APP": APP,
                "ORCHESTRATOR_APP_NAME": self.name,
                "ORCHESTRATOR_BOOTSTRAP": self.bootstrap,
                **environ,
            },
        )
        self._processes.append(started)
        return started

    def queue(self) -> str:
        """A queue that no other test uses."""
        return next(self._queues)

    def end_workers(self) -> None:
        """End what a test left running."""
        for process in self._processes[1:]:
            process.kill()
        del self._processes[1:]

    def close(self) -> None:
        """End everything."""
        self.end_workers()
        self.engine.kill()
        self.rig.close()


@pytest.fixture(scope="module")
def stage(kafka: DevKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(kafka.bootstrap, tmp_path_factory.mktemp("remote"))
    yield made
    made.close()


class Bench:
    """A test's own corner of the stage."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.rig = stage.rig
        self.folder = folder
        self.queue = stage.queue()
        self.id = uuid.uuid4().hex[:6]

    def worker(self, **environ: str) -> Process:
        """Start a worker of the queue. Leases are short unless a test says otherwise."""
        settings = {"ORCHESTRATOR_QUEUES": self.queue, "ORCHESTRATOR_LEASE_S": "3", **environ}
        return self.stage.process("worker", **settings)

    def start(self, name: str, on_crash: str = "retry", cancellation: str = "try", kind: str = "holds") -> str:
        """Start a run of one step; its workflow id."""
        workflow = f"{self.id}-{name}"
        arguments: tuple[Any, ...] = (self.queue, str(self.folder), name)
        if kind == "holds":
            arguments += (on_crash, cancellation)
        code = self.stage.code.registry.workflow(kind, 0)
        self.rig.accepted(workflow, c.StartWorkflow(kind, code.signature.bind(arguments, {})))
        return workflow

    def go(self, name: str) -> None:
        """Let a step end."""
        (self.folder / f"{name}.go").touch()

    def saw(self, name: str, what: str) -> Note:
        """Wait until a step wrote something down."""

        def found() -> list[Note]:
            return [note for note in notes(self.folder, name) if note.what == what]

        until(found, f"{what} of {name}: {notes(self.folder, name)}")
        return found()[0]


@pytest.fixture
def bench(stage: Stage, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(stage, tmp_path)
    stage.end_workers()


def rejections(rig: Rig, workflow: str, command: str) -> list[str]:
    """Codes of the recorded refusals of a command."""
    return [body.code for body in rig.bodies(e.CommandRejected, workflow) if body.command == command]


def test_a_step_runs_on_a_worker_and_its_retries_get_the_last_details(bench: Bench) -> None:
    worker = bench.worker()
    bench.go("quick")
    quick, again = bench.start("quick"), bench.start("again", kind="stumbles")
    assert bench.rig.result(quick) == b'"quick by attempt 1"'
    assert bench.rig.result(again) == b'"after 2"'
    assert began(bench.folder, "quick") == [Note("began", 1, worker.pid)]
    leased = bench.rig.bodies(e.StepLeased, again)
    assert [body.attempt for body in leased] == [1, 2, 3]
    assert len({body.worker for body in leased}) == 1


def test_a_killed_worker_s_steps_are_what_on_crash_says(bench: Bench) -> None:
    one = bench.rig
    first = bench.worker()
    runs = {on_crash: bench.start(on_crash, on_crash) for on_crash in ("retry", "fail", "park")}
    for name in runs:
        assert began(bench.folder, name)[0].pid == first.pid
    first.signal(signal.SIGKILL)
    second = bench.worker()
    assert one.outcome(runs["fail"], wait_s=60.0).code == "failed"
    assert one.bodies(e.StepInterrupted, runs["fail"]) != []
    [parked] = one.wait_for(e.StepParked, runs["park"])
    one.accepted(runs["park"], c.ResolveStep("", parked.step, "complete", Payload(data=b'"seen to"')))
    assert one.result(runs["park"]) == b'"seen to"'
    assert [note.pid for note in began(bench.folder, "retry", 2)] == [first.pid, second.pid]
    bench.go("retry")
    assert one.result(runs["retry"]) == b'"retry by attempt 2"'
    assert len(notes(bench.folder, "fail")) == len(notes(bench.folder, "park")) == 1


@pytest.mark.parametrize("on_crash", ["retry", "fail", "park"])
def test_no_attempt_is_lost_to_engines_that_are_away_for_longer_than_a_lease(bench: Bench, on_crash: str) -> None:
    run = bench.start("away", on_crash)
    bench.rig.wait_for(e.StepScheduled, run)
    bench.stage.engine.signal(signal.SIGSTOP)
    try:
        worker = bench.worker(ORCHESTRATOR_LEASE_S="1")
        worker.until_said("is asked for again")
    finally:
        bench.stage.engine.signal(signal.SIGCONT)
    bench.go("away")
    assert bench.rig.result(run) == b'"away by attempt 1"'
    assert not bench.rig.bodies(e.StepAttemptFailed, run)


def test_a_worker_that_dies_with_a_result_in_its_hands(bench: Bench) -> None:
    first = bench.worker(ORCHESTRATOR_FAILPOINTS="K20:1:kill")
    bench.go("lost")
    run = bench.start("lost")
    assert first.wait() == -signal.SIGKILL
    second = bench.worker()
    assert bench.rig.result(run) == b'"lost by attempt 2"'
    assert [note.pid for note in began(bench.folder, "lost", 2)] == [first.pid, second.pid]
    assert len(bench.rig.bodies(e.StepCompleted, run)) == 1


def test_a_drained_worker_finishes_what_it_holds_and_takes_nothing_new(bench: Bench) -> None:
    first = bench.worker()
    held = bench.start("held")
    began(bench.folder, "held")
    first.signal(signal.SIGTERM)
    first.until_said("takes nothing more")
    later = bench.start("later")
    second = bench.worker()
    assert began(bench.folder, "later")[0].pid == second.pid
    bench.go("held")
    bench.go("later")
    assert first.wait() == 0, first.said
    assert bench.rig.result(held) == b'"held by attempt 1"'
    assert bench.rig.result(later) == b'"later by attempt 1"'
    assert [note.what for note in notes(bench.folder, "held")] == ["began", "ended"]


def test_a_queue_without_a_topic_fails_its_steps_alone(bench: Bench) -> None:
    worker = bench.worker()
    bench.go("ok")
    bench.queue, kept = "nowhere", bench.queue
    lost = bench.start("lost")
    bench.queue = kept
    assert bench.rig.result(bench.start("ok")) == b'"ok by attempt 1"'
    outcome = bench.rig.outcome(lost, wait_s=60.0)
    assert outcome.failure is not None
    assert "tasks.nowhere" in outcome.failure.message
    assert [body.topic for body in bench.rig.bodies(e.SendFailed, lost)] == ["tasks.nowhere"]
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    misled = bench.worker(ORCHESTRATOR_QUEUES="nowhere")
    assert misled.wait() != 0
    assert "topics init --queue" in misled.said


def test_two_workers_share_a_queue_and_one_takes_over(bench: Bench) -> None:
    one = bench.rig
    workers = {process.pid: process for process in (bench.worker(), bench.worker())}
    names: list[str] = []
    runs: dict[str, str] = {}

    def more() -> set[int]:
        name = f"n{len(names)}"
        names.append(name)
        bench.go(name)
        runs[name] = bench.start(name)
        return {began(bench.folder, each)[0].pid for each in names}

    until(lambda: more() == workers.keys(), "both workers to take steps")
    for name in names:
        assert one.result(runs[name]) == f'"{name} by attempt 1"'.encode()
        assert len(began(bench.folder, name)) == 1
    gone, left = workers
    workers[gone].signal(signal.SIGKILL)
    assert workers[gone].wait() == -signal.SIGKILL
    more(), more()
    for name in names[-2:]:
        assert one.result(runs[name]) == f'"{name} by attempt 1"'.encode()
        assert began(bench.folder, name)[0].pid == left


@pytest.mark.contract("queues-sticky")
def test_the_steps_of_a_workflow_stick_to_one_worker(bench: Bench) -> None:
    one = bench.rig
    pids = {bench.worker().pid, bench.worker().pid}
    names: list[str] = []

    def found() -> set[int]:
        name = f"n{len(names)}"
        names.append(name)
        bench.go(name)
        one.result(bench.start(name))
        return {began(bench.folder, each)[0].pid for each in names}

    # Each worker has one of the two partitions from then on; what began earlier may have been the other one's.
    until(lambda: found() == pids, "both workers to take steps")
    settled = len(names)
    while len(names) < settled + 4:
        found()
    for again in (2, 3):
        for name in names[settled:]:
            one.result(bench.start(name))
            assert began(bench.folder, name, again)[again - 1].pid == began(bench.folder, name)[0].pid


@pytest.mark.contract("queues-labels")
def test_a_worker_takes_only_what_bears_its_label(bench: Bench) -> None:
    """A label is a queue: what a worker has, its queues say; what a step needs, its queue says."""
    gpu, both = bench.stage.queue(), bench.stage.queue()
    plain, special = bench.worker(), bench.worker(ORCHESTRATOR_QUEUES=f"{gpu},{both}")
    for name, queue, worker in (("a", bench.queue, plain), ("b", gpu, special), ("c", both, special)):
        bench.go(name)
        bench.queue = queue
        bench.rig.result(bench.start(name))
        assert began(bench.folder, name)[0].pid == worker.pid


def test_a_zombie_s_late_result_is_a_recorded_rejection(bench: Bench) -> None:
    one = bench.rig
    zombie = bench.worker()
    run = bench.start("held")
    began(bench.folder, "held")
    zombie.signal(signal.SIGSTOP)
    other = bench.worker()
    assert began(bench.folder, "held", 2)[1] == Note("began", 2, other.pid)
    # The zombie's step process goes on: its result lies ready when the worker wakes up.
    bench.go("held")
    until(lambda: [note.what for note in notes(bench.folder, "held")].count("ended") == 2, "both attempts' end")
    assert one.result(run) == b'"held by attempt 2"'
    zombie.signal(signal.SIGCONT)
    until(lambda: rejections(one, run, "ReportStep"), f"the rejection: {one.kinds(run)}")
    assert rejections(one, run, "ReportStep") == ["stale_attempt"]
    assert [body.attempt for body in one.bodies(e.StepCompleted, run)] == [2]
    zombie.signal(signal.SIGTERM)
    assert zombie.wait() == 0, zombie.said


def test_a_running_step_hears_of_its_end_at_once(bench: Bench) -> None:
    """Without heartbeats: a lease of an hour is renewed after twenty minutes."""
    one = bench.rig
    bench.worker(ORCHESTRATOR_LEASE_S="3600")
    ends: dict[str, c.TopicCommand | None] = {
        "cancelled": c.CancelWorkflow(),
        "awaited": c.CancelWorkflow(),
        "guarded": c.CancelWorkflow(),
        "terminated": c.TerminateWorkflow(),
        "limited": None,
    }
    runs = {
        "cancelled": bench.start("cancelled"),
        "awaited": bench.start("awaited", cancellation="wait"),
        "guarded": bench.start("guarded", on_crash="park"),
        "terminated": bench.start("terminated"),
        "limited": bench.start("limited", kind="limited"),
    }
    for name, end in ends.items():
        began(bench.folder, name)
        if end is not None:
            one.accepted(runs[name], end)
    for name in runs:
        bench.saw(name, "cancelled")
    codes = {name: one.outcome(run).code for name, run in runs.items()}
    assert codes == {
        "cancelled": "cancelled",
        "awaited": "cancelled",
        "guarded": "cancelled",
        "terminated": "terminated",
        "limited": "failed",
    }
    for run in runs.values():
        assert one.bodies(e.StepHeartbeat, run) == []
        assert rejections(one, run, "HeartbeatStep") == []
    assert one.bodies(e.StepCancelled, runs["awaited"]) != []


def test_the_engine_may_be_replaced_while_a_worker_works(bench: Bench) -> None:
    """A lease outlives the engine that granted it."""
    stage = bench.stage
    worker = bench.worker(ORCHESTRATOR_LEASE_S="60")
    run = bench.start("held")
    began(bench.folder, "held")
    stage.engine.signal(signal.SIGKILL)
    assert stage.engine.wait() == -signal.SIGKILL
    bench.go("held")
    bench.saw("held", "ended")
    stage.engine = stage.process("engine", ORCHESTRATOR_STATE_DIR=str(stage.folder / "state"))
    stage._processes.remove(stage.engine)
    stage._processes[0] = stage.engine
    assert bench.rig.outcome(run, wait_s=60.0).code == "completed"
    assert began(bench.folder, "held") == [Note("began", 1, worker.pid)]
