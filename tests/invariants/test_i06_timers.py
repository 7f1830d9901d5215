"""I6: a timer fires once and never early, by the log's clock."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.core import events as e
from tests.invariants.load import Load

pytestmark = pytest.mark.slow


def test_i6_a_timer_fires_once_and_never_early(load: Load) -> None:
    load.fail_commits(seed=6, rate=0.05)
    engine = load.engine()
    for number in range(8):
        load.start(f"w{number}", load.naps, 4, 5 + 7 * number)
    engine = load.take_over(engine)
    for number in range(8):
        assert load.result(f"w{number}") == b"4"
    load.heal()
    engine.stop(1.0)
    due = {}
    fired: Counter[tuple[str, str]] = Counter()
    for event in load.events():
        if isinstance(event.body, e.TimerSet):
            due[event.run_id, f"{event.body.path}:{event.body.n}"] = event.body.due_at_ms
        elif isinstance(event.body, e.TimerFired):
            fired[event.run_id, event.body.timer] += 1
            assert event.recorded_at_ms >= due[event.run_id, event.body.timer]
    assert fired == Counter(due.keys())
    assert len(fired) == 32


def test_i6_a_timer_due_while_nobody_is_there_fires_afterwards(load: Load) -> None:
    engine = load.engine()
    load.start("w", load.naps, 1, 200)
    load.wait_for(e.TimerSet, "w")
    engine = load.take_over(engine)
    assert load.result("w") == b"1"
    assert len(load.bodies(e.TimerFired, "w")) == 1
    engine.stop(1.0)
