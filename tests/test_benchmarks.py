"""Benchmarks leave nothing behind: whatever ends one, its engines and its broker end too."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.architecture.source import ROOT
from tests.devkafka.processes import family, wait_gone


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_engines_end_with_their_benchmark(number: int) -> None:
    command = [sys.executable, "-m", "benchmarks.walls", "--scale", "0.05"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = []
            while not said or "a run of" not in said[-1]:
                said.append(process.stderr.readline())
                assert said[-1], f"it ended by itself, with {process.wait(60)}: {''.join(said)}"
            all_of_it = family(process.pid)
            process.send_signal(number)
            said += process.stderr.readlines()
        finally:
            process.kill()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    assert "Traceback" not in "".join(said)
    assert len(all_of_it) > 3, "the benchmark, an engine, a broker and its guard"
    wait_gone(*all_of_it)
