"""The guard, over a stand-in for the broker: whoever dies, nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.devkafka import guard
from orchestrator.open_files import raise_open_files
from tests.devkafka.processes import runs, wait_gone

BEYOND_SELECT = 1_100
"""`select` takes descriptors below 1,024."""
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]
OWNER = """
import json, os, subprocess, sys, time
plan = json.loads(sys.argv[1])
plan["lifeline"], keep = os.pipe()
mine, plan["report"] = os.pipe()
plan["owner"] = os.getpid()
child = subprocess.Popen([sys.executable, "-I", "-S", sys.argv[2], json.dumps(plan)],
    pass_fds=(plan["lifeline"], plan["report"]), start_new_session=True)
broker = json.loads(os.read(mine, 1000))["pid"]
if len(sys.argv) > 3 and os.fork() == 0:
    os.closerange(0, 3)
    time.sleep(600)
print(child.pid, broker, flush=True)
time.sleep(600)
"""


class Owned:
    """A guard that this test owns."""

    def __init__(self, directory: Path, command: list[str], grace_s: float = 0.2, owner: int = 0) -> None:
        lifeline, self.lifeline = os.pipe()
        self.report, report = os.pipe()
        plan = {
            **plan_of(directory, command, grace_s),
            "lifeline": lifeline,
            "report": report,
            "owner": owner or os.getpid(),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, json.dumps(plan)],
            pass_fds=(lifeline, report),
            start_new_session=True,
        )
        os.close(lifeline)
        os.close(report)
        self.lines = os.fdopen(self.report, "rb")
        self.pid = int(self.read()["pid"])

    def read(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.lines.readline())
        return facts

    def end(self) -> dict[str, Any]:
        """What it reports at its end."""
        facts = self.read()
        assert self.process.wait(30) == 0
        self.lines.close()
        return facts


def plan_of(directory: Path, command: list[str], grace_s: float = 0.2) -> dict[str, Any]:
    paths = {"log": str(directory / "kafka.log"), "out": str(directory / "out.log")}
    return {**paths, "grace_s": grace_s, "command": command, "remove": ""}


def test_closing_the_lifeline_ends_the_broker(tmp_path: Path) -> None:
    owned = Owned(tmp_path, SLEEPER, grace_s=20)
    os.close(owned.lifeline)
    assert owned.end()["exit"] == -signal.SIGTERM
    assert not runs(owned.pid)


def test_the_lifeline_may_have_any_number(tmp_path: Path) -> None:
    """An owner with a thousand connections open starts one more broker."""
    raise_open_files()
    with contextlib.ExitStack() as stack:
        for _ in range(BEYOND_SELECT):
            stack.enter_context(open(os.devnull, "rb"))
        owned = Owned(tmp_path, SLEEPER, grace_s=20)
    assert owned.lifeline > BEYOND_SELECT
    os.close(owned.lifeline)
    assert owned.end()["exit"] == -signal.SIGTERM


def test_a_broker_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    owned = Owned(tmp_path, STUBBORN)
    while b"deaf" not in (tmp_path / "out.log").read_bytes():
        assert runs(owned.pid)
    os.close(owned.lifeline)
    assert owned.end()["exit"] == -signal.SIGKILL


def test_a_paused_broker_is_ended_too(tmp_path: Path) -> None:
    owned = Owned(tmp_path, SLEEPER, grace_s=20)
    os.write(owned.lifeline, b"P")
    os.close(owned.lifeline)
    assert owned.end()["exit"] == -signal.SIGTERM


@pytest.mark.parametrize(("order", "number"), [(b"K", signal.SIGKILL), (b"T", signal.SIGTERM)])
def test_orders_are_carried_out(order: bytes, number: int, tmp_path: Path) -> None:
    owned = Owned(tmp_path, SLEEPER)
    os.write(owned.lifeline, order)
    assert owned.end()["exit"] == -number
    os.close(owned.lifeline)


def test_the_guard_ignores_the_terminal(tmp_path: Path) -> None:
    owned = Owned(tmp_path, SLEEPER)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        owned.process.send_signal(number)
    os.write(owned.lifeline, b"K")
    assert owned.end()["exit"] == -signal.SIGKILL
    os.close(owned.lifeline)


def test_a_broker_that_ends_by_itself_is_reported_with_its_last_error(tmp_path: Path) -> None:
    (tmp_path / "kafka.log").write_text(
        "[2026-01-01 10:00:00,000] ERROR an older one (kafka.X)\n"
        "[2026-01-01 10:00:01,000] ERROR Exiting Kafka due to fatal exception (kafka.Kafka$)\n"
        "org.apache.kafka.common.KafkaException: Socket server failed to bind\n"
        "\tat kafka.network.Acceptor.open(Acceptor.scala:1)\n"
        "Caused by: java.net.BindException: Address already in use\n"
        "[2026-01-01 10:00:02,000] INFO shut down (kafka.Y)\n"
    )
    owned = Owned(tmp_path, [sys.executable, "-c", "raise SystemExit(7)"])
    facts = owned.end()
    os.close(owned.lifeline)
    assert facts["exit"] == 7
    assert facts["error"].startswith("Exiting Kafka due to fatal exception")
    assert facts["error"].endswith("java.net.BindException: Address already in use")


def test_without_a_log_the_last_printed_line_is_reported(tmp_path: Path) -> None:
    (tmp_path / "out.log").write_text("Error: could not create the Java Virtual Machine\n\n")
    assert "Java Virtual Machine" in guard.last_error(str(tmp_path / "kafka.log"), str(tmp_path / "out.log"))


@pytest.mark.parametrize("fork", [[], ["with a forked child that inherits the lifeline"]])
def test_a_killed_owner_takes_the_broker_along(fork: list[str], tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SLEEPER)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, json.dumps(plan), guard.__file__, *fork],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with owner:
        assert owner.stdout is not None
        guard_pid, broker_pid = map(int, owner.stdout.readline().split())
        assert runs(broker_pid)
        owner.kill()
    try:
        wait_gone(broker_pid, guard_pid)
    finally:
        if fork:
            os.killpg(owner.pid, signal.SIGKILL)


def test_an_owner_that_was_gone_before_the_guard_looked_takes_the_broker_along(tmp_path: Path) -> None:
    """Its forked child holds the lifeline, and nobody is left to open a descriptor of."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owned = Owned(tmp_path, SLEEPER, owner=gone.pid)
    assert owned.end()["exit"] == -signal.SIGTERM
    os.close(owned.lifeline)


def test_temporary_data_go_with_a_killed_owner(tmp_path: Path) -> None:
    home = tmp_path / "cluster" / "node-1"
    home.mkdir(parents=True)
    owned_plan = {**plan_of(tmp_path, SLEEPER), "remove": str(home)}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, json.dumps(owned_plan), guard.__file__], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        pids = [int(text) for text in owner.stdout.readline().split()]
        owner.kill()
    wait_gone(*pids)
    assert not home.parent.exists()


def test_a_killed_guard_takes_the_broker_along(tmp_path: Path) -> None:
    owned = Owned(tmp_path, SLEEPER)
    if sys.platform != "linux":
        os.write(owned.lifeline, b"K")  # only Linux has PDEATHSIG
    owned.process.kill()
    owned.process.wait()
    wait_gone(owned.pid)
    owned.lines.close()
    os.close(owned.lifeline)
