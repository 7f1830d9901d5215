"""While turns take long, others get what they are in the middle of between two of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.core.commands import StartWorkflow
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
@pytest.mark.parametrize(("batch_ms", "apart"), [(0, True), (10**9, False)], ids=["long", "short"])
def test_a_run_begins_in_a_batch_that_holds_nothing_of_others(rig: Make, batch_ms: int, apart: bool) -> None:
    one = rig(app, 1)
    for number in range(RUNS):
        one.send(f"w{number}", StartWorkflow(short.code.workflow_type, short.code.signature.bind((), {})))
    one.engine(EngineOptions(batch_ms=batch_ms))
    assert [one.result(f"w{number}") for number in range(RUNS)] == [b"1"] * RUNS
    starts = [event for event in one.events() if isinstance(event.body, e.RunStarted)]
    batches = [len(list(runs)) for _, runs in groupby(starts, lambda event: (event.claim_no, event.batch_no))]
    assert sum(batches) == RUNS
    # How long batches are is known from the first one on.
    assert (max(batches[1:], default=RUNS) == 1) is apart, batches
