"""Processes that a command owns end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import owned
from orchestrator.cli.owned import Owned

pytestmark = pytest.mark.slow
FAKE_MAIN = """
import signal, sys
from orchestrator.cli.owned import end_with_owner
end_with_owner()
def drained(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(sys.argv[1], "a").write("drained")
    sys.exit(7)
if sys.argv[2] == "polite":
    signal.signal(signal.SIGTERM, drained)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "a").write("ready ")
print("up", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interpreter that runs the fake in place of `-m orchestrator.cli.main`."""
    program = tmp_path / "fake.py"
    program.write_text(FAKE_MAIN, encoding="utf-8")
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{program}" "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    monkeypatch.setattr(owned.sys, "executable", str(wrapper))
    return tmp_path / "said"


def environment() -> dict[str, str]:
    """With this checkout on the path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def until_ready(said: Path) -> None:
    """Wait until the fake has set its handlers."""
    wait = subprocess.run(
        ["/bin/sh", "-c", f'while ! grep -q ready "{said}" 2>/dev/null; do sleep 0.05; done'], check=False, timeout=30
    )
    assert wait.returncode == 0


def test_drain_lets_it_end_by_itself(fake: Path) -> None:
    member = Owned("engine", [str(fake), "polite"], environment())
    until_ready(fake)
    assert member.ended() is None
    member.drain()
    assert member.wait(30) == 7
    assert fake.read_text(encoding="utf-8") == "ready drained"
    assert member.ended() == 7


def test_what_does_not_end_is_killed_and_says_where_it_was(
    fake: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(owned, "KILL_AFTER_S", 0.1)
    member = Owned("engine", [str(fake), "deaf"], environment())
    until_ready(fake)
    member.drain()
    assert member.wait(0.1) == -signal.SIGABRT
    said = capfd.readouterr().err
    assert "the engine did not end within 0.2 s and is killed" in said
    assert "fake.py" in said


def test_kill_asks_once_more_and_does_not_wait_for_who_is_deaf(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned, "TRACE_S", 60.0)
    member = Owned("engine", [str(fake), "polite"], environment())
    until_ready(fake)
    member.kill()
    assert member.wait(0) == 7
    fake.unlink()
    monkeypatch.setattr(owned, "TRACE_S", 0.1)
    member = Owned("engine", [str(fake), "deaf"], environment())
    until_ready(fake)
    member.kill()
    assert member.wait(0) == -signal.SIGKILL


def test_it_drains_when_its_owner_is_gone(fake: Path) -> None:
    member = Owned("engine", [str(fake), "polite"], environment())
    until_ready(fake)
    assert member._process.stdin is not None
    member._process.stdin.close()
    assert member.wait(30) == 7
