"""Every kill point of the fault table has a fail point at its place, and a test or a campaign that fires and counts."""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import failpoints
from orchestrator.core import events as e
from orchestrator.devkafka import DevKafka
from tests.architecture.source import ROOT
from tests.faults import test_kills
from tests.faults.campaign import Campaign, Kill, Site
from tests.oracle.raw import READ_COMMITTED

POINTS = {f"K{number}" for number in range(26)}
OF_TESTS = {"K4"}
"""A step within its effect: marked by the step that a test runs, not by the engine."""
ELSEWHERE = {
    "K17": "tests/faults/test_kill_points.py",
    "K20": "tests/worker/test_remote_broker.py",
}
"""Points that the kill campaign cannot reach: it has one engine and no remote workers."""
PATIENCE_S = 90.0


def placed(folder: str) -> set[str]:
    """Every point that a folder's code names."""
    calls = re.compile(r"failpoint(?:_beside)?\(\"(\w+)\"\)")
    return {found for path in (ROOT / folder).rglob("*.py") for found in calls.findall(path.read_text("utf-8"))}


def test_every_kill_point_has_a_fail_point() -> None:
    assert POINTS - placed("orchestrator") == OF_TESTS
    assert placed("tests/faults") >= OF_TESTS


def test_every_fail_point_is_explained() -> None:
    explained = set(re.findall(r"\bK\d+\b|`(?:gate|decided|careful)`", failpoints.__doc__ or ""))
    named = {f"`{point}`" if point in ("gate", "decided", "careful") else point for point in placed("orchestrator")}
    assert POINTS | named <= explained


def test_every_kill_point_is_fired_by_somebody() -> None:
    campaign = (test_kills.STATIC.keys() | test_kills.GROUP.keys()) & POINTS
    assert campaign | ELSEWHERE.keys() == POINTS
    for point, path in ELSEWHERE.items():
        plan = re.compile(rf"\b{point}(?:\", |:)\d+(?::kill)?\b")
        assert plan.search((ROOT / path).read_text("utf-8")), f"{path} does not fire {point}"


class Rebalanced(Campaign):
    """An engine of a group that dies while it is told that a partition is another's now."""

    def play(self, kill: Kill) -> int:
        """The first engine owns everything, a second one joins; which of the first one's claims the second follows."""
        self.feed(3)
        first = self._engine(0, f"{kill.point}:{kill.hit}:kill", "thread", "first")
        second = None
        try:
            self._until(lambda: self._said(0).count(": claim ") == 2)
            second = self._engine(1, "", "thread")
            self._until(lambda: first.poll() is not None)
            fired = self._fire_log.read_text(encoding="utf-8").splitlines()
            assert fired == [f"{kill.point}:{kill.hit}:kill:{first.pid}"], fired
            self._until(lambda: self._said(1).count(": claim ") >= 2)
            self._until(lambda: not self._unfinished())
            second.terminate()
            assert second.wait(60) == 0, self._said(1)
        finally:
            for engine in filter(None, (first, second)):
                engine.kill()
                engine.wait(30)
            self._transport.close()
        events = self._all(self._read("events", READ_COMMITTED))
        bodies = [self.codec.decode_event(raw.key, raw.value).event.body for raw in events]
        return sum(isinstance(body, e.PartitionClaimed) and body.pid == first.pid for body in bodies)

    def _until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, (self._said(0), self._said(1) if self._log_of(1).exists() else "")
            time.sleep(0.2)


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_engine_that_dies_in_its_revoke_callback_costs_nothing(
    kafka: DevKafka, tmp_path: Path, seed: int, rng: random.Random
) -> None:
    """Under either group protocol, as the seed has it."""
    protocol = rng.choice(["consumer", "classic"])
    app = f"revoked-{uuid.uuid4().hex[:6]}"
    played = Rebalanced(Site(kafka.bootstrap, app, tmp_path, "group", protocol), random.Random(seed))
    assert played.play(Kill("K17", 1)) == 2
    found = played._judge()
    assert not found.verdict.anomalies, found.verdict.text()
    assert found.verdict.totals["completed"] == found.expected
    assert not found.open_transactions
