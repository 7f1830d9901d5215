"""What counts as a turn that does not yield: what its thread computes, not what the machine or the collector takes."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engine import turn_guard
from orchestrator.engine.turn_guard import TurnGuard
from orchestrator.sdk import garbage
from orchestrator.sdk.loop import RunLoop
from orchestrator.sdk.turn import Overlong

pytestmark = pytest.mark.slow

PATIENCE_S = 3_600.0
LIMIT_S = 0.1


class Looks:
    """Counts how often the guard looked at a turn under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._changed = threading.Condition()
        self._seen = 0
        monkeypatch.setattr(turn_guard, "debugged", self._look)

    def _look(self) -> bool:
        with self._changed:
            self._seen += 1
            self._changed.notify_all()
        return False

    def wait(self, times: int) -> None:
        """Without computing, until it has looked that often more."""
        with self._changed:
            enough = self._seen + times
            assert self._changed.wait_for(lambda: self._seen >= enough, PATIENCE_S)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


@pytest.fixture
def guard() -> Iterator[TurnGuard]:
    one = TurnGuard(LIMIT_S)
    yield one
    one.stop()


def compute() -> None:
    while True:
        pass


def wait() -> None:
    never = threading.Event()
    while True:
        never.wait(0.001)


def test_a_turn_that_computes_is_ended(guard: TurnGuard) -> None:
    guard.arm()
    with pytest.raises(Overlong):
        compute()
    assert guard.disarm()


def test_one_that_swallows_its_end_is_ended_again(guard: TurnGuard) -> None:
    guard.arm()
    for _ in range(2):
        with pytest.raises(Overlong):
            compute()
    assert guard.disarm()


def test_a_turn_that_waits_is_not_charged_for_it(
    guard: TurnGuard, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its processor, for one: a machine with too much to do parks nothing."""
    monkeypatch.setattr(turn_guard, "WAITS", PATIENCE_S)
    guard.arm()
    looks.wait(20)
    assert not guard.disarm()


def test_one_that_waits_for_ever_is_ended_all_the_same(guard: TurnGuard) -> None:
    guard.arm()
    with pytest.raises(Overlong):
        wait()
    assert guard.disarm()


class Slow:
    """Garbage that takes the collector long."""

    def __init__(self, takes: Callable[[], None]) -> None:
        self.itself = self
        self._takes = takes

    def __del__(self) -> None:
        self._takes()


def test_a_collection_in_its_middle_is_not_charged_to_a_turn(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes an hour, by the clock on the wall, under the eyes of the guard."""
    garbage.install()
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], thread_time=time.thread_time)
    monkeypatch.setattr(turn_guard, "time", clock)
    monkeypatch.setattr(garbage, "time", clock)
    monkeypatch.setattr(turn_guard, "_clock_of", None)

    def pass_(seconds: float) -> None:
        now[0] += seconds
        looks.wait(2)

    loop: Any = RunLoop()
    guard = TurnGuard(LIMIT_S)
    asyncio._set_running_loop(loop)
    try:
        Slow(lambda: pass_(PATIENCE_S))
        guard.arm()
        gc.collect()
        pass_(LIMIT_S / 2)
        assert not guard.disarm()
        assert now == [PATIENCE_S + LIMIT_S / 2]
    finally:
        asyncio._set_running_loop(None)
        guard.stop()
