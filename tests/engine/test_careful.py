"""A turn that kills its process costs three take-overs and its own run; a step that does costs its step process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.core.commands import SignalWorkflow, StartWorkflow
from orchestrator.core.values import Payload
from orchestrator.engine.mark import Mark
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.run import Engine
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.sdk.turn import LiveRun, Turn
from orchestrator.worker.executor import Executor
from tests.engine.deadly_app import (
    app,
    blocking_turn,
    deadly_late,
    deadly_once,
    deadly_step,
    deadly_turn,
    harmless,
    holding_turn,
    stubborn_turn,
)
from tests.engine.rig import KafkaSite, Rig

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

Make = Callable[..., Rig]
ROOT = Path(__file__).parent.parent.parent
IMPATIENT = """
from orchestrator.cli.main import main
from orchestrator.engine import loop, supervisor
loop.BUSY_S, supervisor.HUNG_S = 2.0, 3.0
raise SystemExit(main())
"""
"""The command line, with a supervisor that waits for seconds instead of a minute."""


class Died(BaseException):
    """The process is gone, as far as one thread can say so."""


def until(holds: Callable[[], bool], seen: object) -> None:
    """Wait for something; fails, showing what is there, when it never holds."""
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline, seen
        time.sleep(0.005)


def mortal(
    monkeypatch: pytest.MonkeyPatch, owner: Callable[[], Engine], workflow_type: str = "deadly_turn"
) -> list[str]:
    """From now on a turn of that workflow ends its owner; the list says whose instances died."""
    died: list[str] = []
    deliver = LiveRun.deliver

    def deliver_or_die(run: LiveRun, event: e.Event) -> Turn:
        if run.code.workflow_type != workflow_type:
            return deliver(run, event)
        owner().log.membership().stop()
        died.append(owner().options.instance)
        raise Died

    monkeypatch.setattr(LiveRun, "deliver", deliver_or_die)
    return died


@pytest.mark.contract("bugs-deadly")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_turn_that_kills_its_owner_is_parked_at_the_third_take_over(
    rig: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig(app, 1)
    died = mortal(monkeypatch, lambda: one.engines[-1])
    # A process that is gone takes nothing back.
    monkeypatch.setattr(Mark, "off", lambda mark: None)

    def engine() -> None:
        one.engine(EngineOptions(marks=tmp_path))

    engine()
    one.start("before", harmless, 0)
    sent = one.send("deadly", _start(deadly_turn))
    others = [one.send(f"w{number}", _start(harmless, number)) for number in range(4)]
    for take_over in range(1, 4):
        until(lambda take_over=take_over: len(died) >= take_over, died)
        partition = one.engines[-1].partitions.get(0)
        assert partition is None or partition.join(5.0)
        engine()
    assert "2 attempts" in one.parked("deadly")
    assert "the turn of deadly (run " in one.parked("deadly")
    assert "ended while the turn of deadly (run " in caplog.text
    assert [body.kind for body in one.bodies(e.RunParked, "deadly")] == ["crashed"]
    assert len(died) == 3
    attempts = [event.body.attempt for event in one.events("deadly") if isinstance(event.body, e.TurnAttempted)]
    assert attempts == [1, 2]
    assert [one.result(f"w{number}") for number in range(4)] == [b"3", b"4", b"5", b"6"]
    assert one.result("before") == b"3"
    assert {one.answers(command)[0].outcome for command in (sent, *others)} == {"accepted"}
    # Nobody died since: the next run is no suspect.
    one.start("after", harmless, 10)
    assert one.result("after") == b"13"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_turn_behind_a_long_replay_is_parked_all_the_same(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its replay takes several batches: the attempt is over when the turn is, not when the first slice is."""
    options = EngineOptions(replay_slice=2)
    one = rig(app, 1)
    one.engine(options)
    one.start("deadly", deadly_late)
    one.wait_for(e.StepCompleted, "deadly", 6)
    died = mortal(monkeypatch, lambda: one.engines[-1], "deadly_late")
    one.send("deadly", SignalWorkflow("strike", Payload(data=b"1")))
    for take_over in range(1, 4):
        until(lambda take_over=take_over: len(died) >= take_over, died)
        partition = one.engines[-1].partitions.get(0)
        assert partition is None or partition.join(5.0)
        one.engine(replace(options, instance=f"owner-{take_over}"))
    assert "2 attempts" in one.parked("deadly")
    assert len(died) == 3


def _start(code: Any, *args: Any) -> Any:
    return StartWorkflow(code.code.workflow_type, code.code.signature.bind(args, {}))


@pytest.mark.contract("bugs-others")
@pytest.mark.slow
def test_a_step_that_kills_its_process_stops_nobody(rig: Make) -> None:
    one = rig(app)

    def processes(code: Orchestrator, options: ExecutorOptions, report: Any) -> Executor:
        return Executor("tests.engine.deadly_app:app", options, report)

    one.engine(executor=processes)
    one.start("retried", deadly_step)
    one.start("once", deadly_once)
    for number in range(4):
        one.start(f"w{number}", harmless, number)
    assert [one.result(f"w{number}") for number in range(4)] == [b"3", b"4", b"5", b"6"]
    assert b"StepFailed" in one.result("once")
    assert len(one.bodies(e.StepInterrupted, "once")) == 1
    assert "killed its process" in one.parked("retried")
    assert len(one.bodies(e.StepAttemptFailed, "retried")) == 2
    assert one.result("w0") == b"3"


@pytest.mark.contract("bugs-deadly")
@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize(
    ("deadly", "code"),
    [(deadly_turn, -9), (stubborn_turn, 1), (holding_turn, 1), (blocking_turn, 1)],
    ids=["killed", "stubborn", "holding", "blocking"],
)
def test_a_turn_that_ends_its_engine_process_costs_three_and_its_own_run(
    kafka: DevKafka, tmp_path: Path, deadly: Any, code: int
) -> None:
    """By a signal, or by the supervisor because the turn swallows the exception that is to end it, or never gets it."""
    site = KafkaSite(f"deadly-{uuid.uuid4().hex[:8]}", kafka.bootstrap, partitions=1)
    renamed = Orchestrator(site.reply_to.topic.removesuffix(".replies"))
    one = Rig(renamed, site)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ORCHESTRATOR_APP": "tests.engine.deadly_app:app",
        "DEADLY_APP": renamed.name,
        "ORCHESTRATOR_BOOTSTRAP": kafka.bootstrap,
        "ORCHESTRATOR_STATE_DIR": str(tmp_path),
        "ORCHESTRATOR_MEMBERSHIP": "static",
        "ORCHESTRATOR_ASSIGNMENT": "0",
        "ORCHESTRATOR_ISOLATION": "thread",
    }
    command = [sys.executable, "-c", IMPATIENT, "engine", "run"]
    one.send("deadly", _start(deadly))
    for number in range(3):
        one.send(f"w{number}", _start(harmless, number))
    codes = []
    engine = subprocess.Popen(command, env=environment, cwd=tmp_path)
    try:
        for _ in range(3):
            codes.append(engine.wait(60))
            engine = subprocess.Popen(command, env=environment, cwd=tmp_path)
        assert codes == [code] * 3
        assert "2 attempts" in one.parked("deadly")
        assert "the turn of deadly (run " in one.parked("deadly")
        assert [one.result(f"w{number}") for number in range(3)] == [b"3", b"4", b"5"]
        assert engine.poll() is None
    finally:
        engine.terminate()
        engine.wait(60)
        one.close()
    assert engine.returncode == 0
