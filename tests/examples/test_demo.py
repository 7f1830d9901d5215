"""The whole demo on a real broker, with its three faults; and what Ctrl-C leaves behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from examples.environment_audit.app import step_count
from tests.devkafka.processes import wait_gone

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    "steps", "model_calls", "cut_by_kill", "cut_by_stream", "repeated_calls", "kills", "rate_limited", "tokens_saved",
    "audit", "report",
]  # fmt: skip
LIMIT = 15
OURS = {"KILL_STEP", "RATE_LIMIT_STEP", "BREAK_STEP", "SEED", "LIMIT", "OPENAI_BASE_URL", "OPENAI_MODEL"}

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@contextmanager
def running(**wishes: str) -> Iterator[subprocess.Popen[str]]:
    """The demo as `make demo` runs it, in a session of its own; killed if a test leaves it behind."""
    environ = {name: value for name, value in os.environ.items() if name not in OURS}
    with subprocess.Popen(
        [sys.executable, "-m", "examples.environment_audit"],
        cwd=ROOT,
        env={**environ, **wishes, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def wait_for(demo: subprocess.Popen[str], pattern: str) -> str:
    """Read the demo's lines until one matches; returns all that were read."""
    assert demo.stdout is not None
    read = ""
    for line in demo.stdout:
        read += line
        if re.search(pattern, line):
            return read
    raise AssertionError(f"the demo ended before it printed {pattern!r}:\n{read}")


def pids(output: str) -> list[int]:
    """The engines that the output names."""
    return [int(pid) for pid in re.findall(r"engine \d+ started \(pid (\d+)\)", output)]


def test_the_whole_demo_with_its_faults(rng: random.Random) -> None:
    seed = str(rng.randrange(1_000))
    with running(LIMIT=str(LIMIT), SEED=seed) as demo:
        output, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, output
    last = json.loads(output.splitlines()[-1])
    assert list(last) == NAMES
    report = Path(last.pop("report"))
    assert last.pop("tokens_saved") > 0
    # A model call for every summary and risk note, and one more for each call that was cut.
    assert last == {
        "steps": step_count(LIMIT),
        "model_calls": 2 * LIMIT + last["cut_by_kill"] + 1,
        "cut_by_kill": 1,
        "cut_by_stream": 1,
        "repeated_calls": 0,
        "kills": 1,
        "rate_limited": 1,
        "audit": "ok",
    }
    assert last["steps"] >= 45
    assert "<table>" in report.read_text(encoding="utf-8")
    assert report.with_suffix(".md").exists()
    assert len(pids(output)) == 2
    wait_gone(*pids(output))


@pytest.mark.parametrize("moment", ["starting Kafka", "engine 1 started", "engine 2 started", "step  42: asked again"])
def test_ctrl_c_ends_it_cleanly(moment: str) -> None:
    with running(LIMIT=str(LIMIT)) as demo:
        read = wait_for(demo, moment)
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, read + rest
    assert "Traceback" not in rest
    assert "nothing was left running" in rest
    wait_gone(*pids(read + rest))


def test_a_wish_that_cannot_be_had_is_refused_before_anything_starts() -> None:
    with running(KILL_STEP="9999") as demo:
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert re.search(r"error: KILL_STEP=9999: .*name one up to there", output)
    assert "Kafka" not in output
