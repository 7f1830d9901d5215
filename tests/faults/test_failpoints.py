"""Fail points count every hit once, whichever thread it comes from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import failpoints

THREADS = 4
HITS = 2_000


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
    failpoints.install("")


def test_every_planned_hit_fires_once_whatever_thread_comes_first(restless: None) -> None:
    planned = range(1, THREADS * HITS + 1, 7)
    failpoints.install(",".join(f"P:{hit}:raise" for hit in planned))
    fired: list[int] = []

    def reach() -> None:
        for _ in range(HITS):
            try:
                failpoints.failpoint("P")
            except failpoints.InjectedFault as fault:
                fired.append(int(str(fault).rsplit(" ", 1)[1]))

    threads = [threading.Thread(target=reach) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fired) == list(planned)


def test_a_point_beside_a_call_acts_while_the_call_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    acted = threading.Event()
    threads: list[str] = []
    act = failpoints._act

    def noted(due: failpoints._Due) -> None:
        threads.append(threading.current_thread().name)
        act(due)
        acted.set()

    monkeypatch.setattr(failpoints, "_act", noted)
    failpoints.install("P:2:sleep=0,P:3:raise")
    try:
        failpoints.failpoint_beside("P")
        failpoints.failpoint_beside("P")
        assert acted.wait(20), "the second hit did nothing"
        with pytest.raises(failpoints.InjectedFault):
            failpoints.failpoint_beside("P")
    finally:
        failpoints.install("")
    here = threading.current_thread().name
    assert [name == here for name in threads] == [False, True]
    failpoints.failpoint("P")


STOPS = """
from orchestrator.failpoints import failpoint

failpoint("P")
print("went on", flush=True)
"""


def test_stop_freezes_the_process_until_it_is_told_to_go_on(tmp_path: Path) -> None:
    fired = tmp_path / "fired"
    plan = {"ORCHESTRATOR_FAILPOINTS": "P:1:stop", "ORCHESTRATOR_FAILPOINT_LOG": str(fired)}
    process = subprocess.Popen([sys.executable, "-c", STOPS], env=os.environ | plan, stdout=subprocess.PIPE, text=True)
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == signal.SIGSTOP
        assert fired.read_text("utf-8") == f"P:1:stop:{process.pid}\n"
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=60)[0] == "went on\n", (
            "and not before: what it prints comes behind the point"
        )
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("plan", ["K7", "K7:3", "K7:often:kill"])
def test_a_malformed_plan_is_refused(plan: str) -> None:
    with pytest.raises(ValueError):
        failpoints.parse(plan)
