"""The commands of docs/runbook.md, each tried on a real broker with a real engine in the trouble that it is for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from orchestrator.cli.main import main
from orchestrator.core.levels import LEVEL
from orchestrator.devkafka import DevKafka
from tests.architecture.source import ROOT
from tests.docs.test_commands import lines

WAIT_S = 60.0
ELSEWHERE = {
    "workflow debug": "tests/cli/test_run_debug.py",
    "worker run": "tests/worker/test_run.py",
    "checkpoint list": "tests/cli/test_checkpoint.py",
    "checkpoint verify": "tests/cli/test_checkpoint.py",
    "engine status": "tests/cli/test_engine.py",
}
"""Commands of the runbook that other tests try."""

Run = Callable[..., Any]


@pytest.fixture
def run(kafka: DevKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("doctor")`: a command's JSON (or text), checked to have ended with exit code 0 (or `code=`)."""
    settings = {
        "ORCHESTRATOR_APP": "tests.docs.stuck:app",
        "ORCHESTRATOR_BOOTSTRAP": kafka.bootstrap,
        "ORCHESTRATOR_STATE_DIR": str(tmp_path / "state"),
        "ORCHESTRATOR_PARTITIONS": "4",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ROOT)

    def one(*words: str, code: int = 0) -> Any:
        found = main(list(words))
        out, err = capsys.readouterr()
        assert found == code, f"{words}: {found}\n{out}{err}"
        return json.loads(out) if "json" in words else out

    return one


@pytest.fixture
def engine(run: Run, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An engine that owns the application's partitions."""
    run("topics", "init")
    with (tmp_path / "engine.log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", "engine", "run"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        print((tmp_path / "engine.log").read_text("utf-8"))


def until(found: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.2)


def command(line: str) -> str:
    """Noun and verb of a command line."""
    words = line.split()[1:]
    return words[0] if words[0] == "doctor" else " ".join(words[:2])


def status(run: Run, workflow_id: str) -> str:
    """What `workflow show` says of a run."""
    return str(run("workflow", "show", workflow_id, "-o", "json")["status"])


def test_every_command_of_the_runbook_is_tried() -> None:
    tried = {
        " ".join(words).strip()
        for words in re.findall(r'run\("([a-z-]+)"(?:, "([a-z-]+)")?', Path(__file__).read_text())
    }
    named = {command(line) for line in lines(ROOT / "docs/runbook.md")}
    assert named - tried == ELSEWHERE.keys()
    assert all((ROOT / test).exists() for test in ELSEWHERE.values())


@pytest.mark.broker
def test_a_stuck_run(run: Run, engine: subprocess.Popen[bytes]) -> None:
    for name in ("dying", "buggy", "waiting"):
        run("workflow", "start", name, "--id", name, "--timeout", "60")
    assert "ok" in run("doctor")
    assert "bad" not in run("topics", "check")

    until(lambda: "buggy" in run("workflow", "list", "--status", "parked"))
    assert "IndexError" in run("workflow", "show", "buggy")
    assert "RunParked" in run("workflow", "history", "buggy")
    run("workflow", "retry", "buggy")
    run("workflow", "terminate", "buggy")
    assert status(run, "buggy") == "terminated"

    steps: list[dict[str, Any]] = []

    def parked() -> bool:
        steps[:] = run("workflow", "show", "dying", "-o", "json")["pending_steps"]
        return [step["state"] for step in steps] == ["parked"]

    until(parked)
    step = steps[0]["step"]
    run("step", "retry", "dying", step)
    until(parked)
    run("step", "complete", "dying", step, "5")
    until(lambda: status(run, "dying") == "completed")

    run("workflow", "start", "dying", "--id", "dying-2")
    until(lambda: "parked" in run("workflow", "show", "dying-2"))
    run("step", "fail", "dying-2", step, "it had no effect")
    until(lambda: status(run, "dying-2") == "failed")

    run("workflow", "signal", "waiting", "go", "true")
    until(lambda: status(run, "waiting") == "completed")
    run("workflow", "start", "waiting", "--id", "waiting-2")
    run("workflow", "cancel", "waiting-2")
    until(lambda: status(run, "waiting-2") == "cancelled")


@pytest.mark.broker
def test_dead_letters_then_a_partition_that_is_looked_at(
    run: Run, engine: subprocess.Popen[bytes], kafka: DevKafka
) -> None:
    before = len(run("dead-letters", "list", "-o", "json"))
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce("runbook.commands", key=b"x", value=b"no Avro", partition=3)
    assert producer.flush(30) == 0
    until(lambda: len(run("dead-letters", "list", "-o", "json")) == before + 1)
    number = str(run("dead-letters", "list", "-o", "json")[-1]["number"])
    assert "no Avro" in run("dead-letters", "show", number)
    run("dead-letters", "resubmit", number, "--yes")
    until(lambda: len(run("dead-letters", "list", "-o", "json")) == before + 2)

    assert [row["level"] for row in run("upgrade", "status", "-o", "json")] == [LEVEL] * 4
    run("upgrade", "finalize")
    run("upgrade", "finalize", "--yes", "--reason", "release 2 is in")

    assert "commands are routed by" in run("topics", "grow", "5")
    assert "routes by" in run("topics", "grow", "5", "--yes", "--reason", "more load")
    assert "bad" not in run("doctor")

    engine.send_signal(signal.SIGTERM)
    assert engine.wait(WAIT_S) == 0
    run("audit", "verify", "--partition", "3")
    assert "no command is missing" in run("partition", "repair", "3")
    assert "nothing to adopt" in run("topics", "adopt")

    producer.produce("runbook.events", key=b"x", value=b"by hand", partition=3)
    assert producer.flush(30) == 0
    run("audit", "verify", "--partition", "3", code=1)
    assert "--yes" in run("partition", "repair", "3", code=1)
    assert "accepted and recorded" in run("partition", "repair", "3", "--yes", "--reason", "somebody wrote to it")
    assert "somebody wrote to it" in run("audit", "verify", "--partition", "3")
    assert "no command is missing" in run("partition", "repair", "3")
