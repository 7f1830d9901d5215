"""Fail points count every hit once, whichever thread it comes from."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

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


@pytest.mark.parametrize("plan", ["K7", "K7:3", "K7:often:kill"])
def test_a_malformed_plan_is_refused(plan: str) -> None:
    with pytest.raises(ValueError):
        failpoints.parse(plan)
