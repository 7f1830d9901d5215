"""Ctrl-C ends `orchestrator dev` at any moment: nothing hangs, nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.devkafka.processes import family, wait_gone

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PATIENCE_S = 60.0
"""More than `dev` waits for a process that does not drain: it kills that one and says where it was."""


@pytest.mark.parametrize("moment", ["starting Kafka", "Kafka ready", "topics of", "engine of"])
def test_ctrl_c_ends_dev_whatever_it_is_doing(tmp_path: Path, moment: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_BOOT")}
    dev = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli.main", "dev", "tests.cli.dev_app:app", "--port", "0"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), "ORCHESTRATOR_STATE_DIR": str(tmp_path / "state")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    pids: set[int] = set()
    try:
        assert dev.stdout is not None
        for line in dev.stdout:
            said.append(line)
            if moment in line:
                break
        pids = family(dev.pid)
        dev.send_signal(signal.SIGINT)
        rest, _ = dev.communicate(timeout=PATIENCE_S)
        said.append(rest)
    finally:
        dev.kill()
        dev.wait()
    assert any(moment in line for line in said), said
    assert dev.returncode == 130, said
    assert "did not end" not in rest, rest
    wait_gone(*pids)
