"""The commands of docs/the-hole.md, as they stand there: a broker, the proxy, the naive loop, each a process."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```sh\n(python -m tests\.faults\.proxied .*?)```", re.DOTALL)

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def documented() -> list[str]:
    """The lines of the page's block."""
    (found,) = BLOCK.findall((ROOT / "docs/the-hole.md").read_text(encoding="utf-8"))
    return [line for line in found.splitlines() if line and not line.startswith("#")]


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


@contextlib.contextmanager
def started(line: str) -> Iterator[subprocess.Popen[str]]:
    """The process of a line; Ctrl-C in the end."""
    words = shlex.split(line)
    assert words[0] == "python"
    process = subprocess.Popen(
        [sys.executable, *words[1:]], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_the_documented_commands_show_the_hole() -> None:
    lines = documented()
    ports = {port: free_port() for port in ("19092", "19095")}
    for port, free in ports.items():
        lines = [line.replace(port, free) for line in lines]
    start, *pairs = lines
    assert [line.split()[1] for line in pairs] == ["tests/faults/kafka_proxy.py", "tests/faults/naive_loop.py"] * 2
    found = []
    with started(start) as broker:
        assert broker.stdout is not None
        said = json.loads(broker.stdout.readline())
        for proxy, loop in zip(pairs[::2], pairs[1::2], strict=True):
            with started(proxy.replace("$BEHIND", said["behind_the_proxy"])) as harm:
                assert harm.stderr is not None
                assert "before" in harm.stderr.readline()
                done = subprocess.run(
                    [sys.executable, *shlex.split(loop)[1:]], cwd=ROOT, capture_output=True, text=True, timeout=120
                )
                assert done.returncode == 0, done.stderr
                found.append(json.loads(done.stdout))
    lost, half = found
    assert lost == {
        "ended_by_nobody": True, "commit_returned": "OK", "visible": ["2b"], "lost": ["2a"], "half_visible": [],
    }  # fmt: skip
    assert half["ended_by_nobody"]
    assert (half["commit_returned"], half["half_visible"]) == ("refused", ["2a"])
