"""Commits that fail at random: everything finishes, nothing is lost, nothing happens twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from tests.oracle.oracle import Evidence, Expected, LoadModel, SentSignal, check
from tests.projections.test_audit_engine import Load, work

pytestmark = pytest.mark.slow

RUNS = 12
SHARE = 0.10


def at_random(seed: int) -> Callable[[str], str]:
    """A tenth of all commits fails."""
    rng, lock = random.Random(seed), threading.Lock()

    def verdict(lane: str) -> str:
        with lock:
            return rng.choice(("lost", "unknown")) if rng.random() < SHARE else ""

    return verdict


@pytest.mark.parametrize("case", range(10))
def test_everything_finishes_once(case: int, seed: int) -> None:
    load = Load()
    load.cluster.on_commit = at_random(seed + case)
    engine = load.engine()
    engine.start()
    expected = {}
    for number in range(RUNS):
        workflow, steps = f"w{number}", number % 5 + 2
        load.accepted(workflow, c.StartWorkflow("work", work.code.signature.bind((steps,), {})))
        signal = load.accepted(workflow, c.SignalWorkflow("go", Payload(data=b"1000")))
        total = sum(range(1, steps + 1)) + 1000
        expected[workflow] = Expected(total, steps, "completed", (SentSignal(signal),))
    for workflow, wanted in expected.items():
        assert int(load.result(workflow)) == wanted.result
    load.cluster.on_commit = lambda lane: ""
    engine.stop()
    verdict = check(
        load.records("events"),
        load.records("events", committed=False),
        LoadModel(expected=expected, acknowledged=load.acked),
        Evidence(commands=load.records("commands")),
    )
    assert not verdict.anomalies, verdict.text()
