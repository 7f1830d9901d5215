"""`orchestrator kafka start|stop|status`: it outlives the command, and `stop` returns when it is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.devkafka.runtime import Runtime
from orchestrator.log import probe
from tests.devkafka.processes import runs, wait_gone

pytestmark = pytest.mark.broker


class Command:
    """`orchestrator kafka` with a cache of its own."""

    def __init__(self, cache: Path) -> None:
        self.environment = {
            **os.environ,
            "ORCHESTRATOR_CACHE": str(cache),
            "PATH": "",
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        }

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator.cli.main", "kafka", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def facts(self, *arguments: str) -> dict[str, Any]:
        done = self(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """Ends what the test started, whatever happened."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for path in Runtime.prepare().cache.glob("*"):
        if path.name.startswith(("jars-", "template-")) or path.suffix == ".aot":
            (cache / path.name).symlink_to(path)
    made = Command(cache)
    yield made
    made("stop")


def test_it_outlives_the_command_until_it_is_stopped(command: Command) -> None:
    assert command("status").returncode == 3
    started = command.facts("start", "--port", "0")
    pids = [started["pid"], *started["node_pids"]]
    assert all(runs(pid) for pid in pids)
    probe.exercise(started["bootstrap"])
    assert command.facts("status") == started
    assert command.facts("start", "--port", "0") == started
    assert command.facts("stop") == {"running": False, "stopped": True}
    assert not any(runs(pid) for pid in pids)
    assert not Path(started["directory"]).exists()
    assert command("status").returncode == 3
    again = command("stop")
    assert again.returncode == 0
    assert "no Kafka runs" in again.stderr


def test_another_shape_than_the_running_one_is_refused(command: Command) -> None:
    command.facts("start", "--port", "0")
    refused = command("start", "--port", "0", "--nodes", "3")
    assert refused.returncode == 1
    assert "orchestrator kafka stop" in refused.stderr


def test_a_taken_port_is_a_sentence_and_nothing_stays(command: Command) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        refused = command("start", "--port", str(port))
    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert command("status").returncode == 3


def test_a_killed_holder_takes_its_broker_along(command: Command) -> None:
    started = command.facts("start", "--port", "0")
    os.kill(started["pid"], signal.SIGKILL)
    wait_gone(*started["node_pids"])
    assert command("stop").returncode == 0
    assert command("status").returncode == 3


@pytest.mark.slow
def test_three_nodes_with_kept_data(command: Command, tmp_path: Path) -> None:
    home = tmp_path / "kept"
    for _ in range(2):
        started = command.facts("start", "--nodes", "3", "--port", "0", "--directory", str(home))
        assert started["kept"] is True
        assert len(started["node_pids"]) == 3
        probe.exercise(started["bootstrap"])
        command.facts("stop")
        assert not any(runs(pid) for pid in started["node_pids"])
    assert (home / "cluster.json").exists()
