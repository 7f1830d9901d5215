"""Steps that kill, freeze or outlive their process: who is blamed, who runs again, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.commands import ReportStep
from orchestrator.sdk.execution import CRASHED
from orchestrator.worker.executor import Executor

from .conftest import MakeRig, alive
from .rig import APP, Rig, lines, until

pytestmark = pytest.mark.slow


def crashed(outcome: ReportStep) -> str:
    """The message of an outcome that must be a crash."""
    assert outcome.failure is not None
    assert outcome.failure.type == CRASHED
    assert outcome.crashed
    return outcome.failure.message


@pytest.mark.parametrize(
    ("name", "arguments", "how"),
    [
        ("die", {"code": 3}, "exit code 3"),
        ("crash", {}, "SIGSEGV"),
        ("starve", {}, "SIGKILL"),
        ("blocking_die", {"code": 5}, "exit code 5"),
    ],
)
def test_a_step_that_kills_its_process_is_blamed_and_neighbours_run_again(
    rig: Rig, tmp_path: Path, name: str, arguments: dict[str, Any], how: str
) -> None:
    gate = tmp_path / "gate"
    neighbours = [rig.start("hold", file=str(gate)) for _ in range(20)]
    until(lambda: len(lines(gate)) == 20, "the neighbours to begin")
    culprit = rig.start(name, **arguments)
    assert how in crashed(rig.outcome(culprit))
    (tmp_path / "gate.go").touch()
    for call in neighbours:
        rig.result(call)
        assert rig.outcome(call).attempt == 1
    assert len(lines(gate)) == (40 if not name.startswith("blocking") else 20)


@pytest.mark.parametrize("on_crash", ["fail", "park"])
def test_a_guarded_step_that_dies_is_never_run_again(rig: Rig, on_crash: str) -> None:
    call = rig.call("die", on_crash, code=6)
    rig.reserve(call.token)
    assert rig.executor.start(call)
    assert "exit code 6" in crashed(rig.outcome(call))


def test_a_step_that_holds_the_shared_loop_is_replaced(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(silence_s=0.5)
    gate = tmp_path / "gate"
    neighbour = rig.start("hold", file=str(gate))
    until(lambda: lines(gate), "the neighbour to begin")
    culprit = rig.start("spin", file=str(tmp_path / "spun"))
    assert "without an await" in crashed(rig.outcome(culprit))
    (tmp_path / "gate.go").touch()
    rig.result(neighbour)
    assert len(lines(tmp_path / "spun")) == 1


def test_a_death_without_culprit_is_found_out_alone(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    neighbour = rig.start("hold", file=str(gate))
    until(lambda: lines(gate), "the neighbour to begin")
    culprit = rig.start("die_in_thread")
    message = crashed(rig.outcome(culprit))
    assert "a step process of its own" in message
    (tmp_path / "gate.go").touch()
    rig.result(neighbour)


def test_a_step_that_takes_all_memory_fails_and_its_process_goes_on(rig: Rig) -> None:
    outcome = rig.outcome(rig.start("hog"))
    assert outcome.failure is not None
    assert outcome.failure.type == "MemoryError"
    assert not outcome.crashed
    rig.result(rig.start("blocking_whoami"))
    rig.result(rig.start("whoami"))


def test_an_idle_process_that_is_killed_is_replaced(rig: Rig) -> None:
    shared = rig.result(rig.start("whoami"))
    alone = rig.result(rig.start("blocking_whoami"))
    for pid in (shared, alone):
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not alive(pid), "the process to be gone")
    assert rig.result(rig.start("whoami")) != shared
    assert rig.result(rig.start("blocking_whoami")) != alone


def test_idle_processes_leave_but_for_the_warm_ones(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(warm=1, idle_s=0.1)
    gate = tmp_path / "gate"
    calls = [rig.start("blocking_hold", file=str(gate)) for _ in range(3)]
    until(lambda: len(lines(gate)) == 3, "three at once")
    (tmp_path / "gate.go").touch()
    for call in calls:
        rig.result(call)
    assert isinstance(rig.executor, Executor)
    pids = rig.executor.pids
    until(lambda: list(pids().values()).count("alone") == 1, "the superfluous processes to leave")
    assert all(alive(pid) for pid in pids())


def test_interrupts_reach_only_the_engine(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    calls = [rig.start("hold", file=str(gate)), rig.start("blocking_hold", file=str(gate))]
    until(lambda: len(lines(gate)) == 2, "both to begin")
    for pid in map(int, lines(gate)):
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    (tmp_path / "gate.go").touch()
    assert sorted(str(rig.result(call)) for call in calls) == sorted(lines(gate))


def test_programs_that_a_step_starts_can_be_ended(rig: Rig) -> None:
    assert rig.result(rig.start("ears")) == -signal.SIGTERM


ENGINE = """
import json, sys, time
from orchestrator.core.values import Payload
from orchestrator.sdk.execution import ExecutorOptions, StepCall
from orchestrator.worker.executor import Executor

executor = Executor({app!r}, ExecutorOptions(), lambda report: None)
executor.wait_ready(60)
for number, (name, arguments) in enumerate({steps!r}):
    data = json.dumps(arguments).encode()
    executor.start(StepCall("w", "r", f"0:{{number}}", 1, f"r/0:{{number}}/1", name, Payload(data=data)))
time.sleep(600)
"""


def engine(steps: list[tuple[str, dict[str, Any]]]) -> subprocess.Popen[bytes]:
    """An engine process in the small: an executor that was given steps."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ENGINE).format(app=APP, steps=steps)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("name", ["hold", "blocking_hold", "spin", "blocking_spin"])
def test_no_step_process_outlives_its_engine(tmp_path: Path, name: str) -> None:
    file = tmp_path / "begun"
    with engine([(name, {"file": str(file)})]) as process:
        try:
            pid = int(until(lambda: lines(file), "the step to begin")[0])
            assert alive(pid)
        finally:
            process.kill()
        until(lambda: not alive(pid), "the step process to end with its engine")


def test_what_steps_print_appears_at_the_engine() -> None:
    with engine([("speak", {"text": "a word"})]) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"a word\n"
            assert process.stderr.readline() == b"a word\n"
        finally:
            process.kill()
