"""While turns take long, others get what they are in the middle of between two of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from types import SimpleNamespace

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.core.commands import StartWorkflow
from orchestrator.engine import pace as pace_module
from orchestrator.engine.inbox import Inbox
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.pace import Pace
from orchestrator.log.ports import Wire
from tests.engine.rig import Rig

Make = Callable[..., Rig]
RUNS = 40

app = Orchestrator("pace")


@app.workflow
async def short() -> int:
    return 1


class Waits(Inbox):
    """What was waited for."""

    def __init__(self) -> None:
        super().__init__(lambda: None, lambda: None)
        self.seen: list[str] = []

    def wait_tail(self, timeout_s: float) -> bool:
        self.seen.append("footer")
        return False

    def pause_for(self, seconds: float) -> None:
        self.seen.append("rest")


def test_a_long_turn_counts_for_a_few_batches() -> None:
    pace = Pace(50)
    pace.took(0.025)
    assert not pace.slow
    pace.took(0.05)
    slow = []
    for _ in range(6):
        slow.append(pace.slow)
        pace.took(0.001)
    assert slow == [True] * 4 + [False] * 2


def test_for_as_long_as_a_long_turn_took_others_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """No longer: starts that come faster than batches would wait ever longer, and so behind turns that are all long."""
    now = [100.0]
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    pace = Pace(50)
    assert not pace.cuts
    pace.took(0.1)
    assert pace.cuts
    now[0] = 100.05
    pace.took(0.001)
    assert pace.cuts
    pace.took(0.1)
    now[0] = 100.1
    assert not pace.cuts
    assert pace.slow
    pace.took(0.1)
    assert pace.cuts


def test_only_before_a_long_batch_is_anything_waited_for() -> None:
    pace, inbox = Pace(50), Waits()
    assert not pace.footer_is_near(inbox)
    pace.rest(inbox)
    assert not inbox.seen
    inbox.put_tail([Wire("log", 0, 0, b"", b"", 0)])
    assert pace.footer_is_near(inbox)
    inbox.tail.clear()
    pace.took(1.0)
    assert not pace.footer_is_near(inbox)
    pace.rest(inbox)
    assert inbox.seen == ["footer", "rest"]


@pytest.mark.slow
def test_a_batch_that_holds_something_ends_before_a_run_begins(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert started(rig(app, 1)) == [RUNS]
    monkeypatch.setattr(Pace, "cuts", True)
    assert started(rig(app, 1)) == [1] * RUNS


def started(one: Rig) -> list[int]:
    """How many runs began in each batch in which any did."""
    for number in range(RUNS):
        one.send(f"w{number}", StartWorkflow(short.code.workflow_type, short.code.signature.bind((), {})))
    one.engine(EngineOptions(batch_ms=10**9))
    assert [one.result(f"w{number}") for number in range(RUNS)] == [b"1"] * RUNS
    starts = [event for event in one.events() if isinstance(event.body, e.RunStarted)]
    return [len(list(runs)) for _, runs in groupby(starts, lambda event: (event.claim_no, event.batch_no))]
