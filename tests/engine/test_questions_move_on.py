"""Questions and duplicates leave no record; all the same the input position does not stay behind them for ever."""

from __future__ import annotations

from itertools import pairwise

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c
from orchestrator.core.events import BatchFooter
from orchestrator.core.replay import Batch
from orchestrator.core.values import BatchId
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from tests.engine.rig import MemorySite, Rig, kill, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
app = Orchestrator("questions")
go = app.signal("go", int)


@app.workflow
async def waits() -> int:
    return await go.wait()


def footers(one: Rig) -> list[int]:
    """The input positions on the log."""
    return [batch.footer.event.body.position.offset for batch in one.batches() if not batch.is_claim]


def for_nothing(one: Rig) -> list[Batch]:
    """Batches without an event that acknowledge nothing either."""
    batches = one.batches()
    return [
        batch
        for before, batch in pairwise(batches)
        if not batch.is_claim and not batch.records and acknowledged(batch) == acknowledged(before)
    ]


def acknowledged(batch: Batch) -> BatchId | None:
    """Up to where a footer says that what its owner sends was sent; a claim says nothing."""
    body = batch.footer.event.body
    return body.outbox_upto if isinstance(body, BatchFooter) else None


def state(engine: Engine) -> State | None:
    """What the only partition does."""
    return engine.partitions[0].state if 0 in engine.partitions else None


def test_commands_that_only_asked_may_be_deleted_before_a_footer_counts_them() -> None:
    """A partition that is asked for weeks, then killed: the retention of commands has taken the questions."""
    one = Rig(app, MemorySite(app.name, 1))
    try:
        engine = one.engine(EngineOptions(idle_footer_s=0.05, idle_input_s=0.3))
        one.start("w", waits)
        # What was sent is acknowledged by then: nothing but the questions moves from here on.
        until(lambda: len(footers(one)) >= 2)
        for _ in range(3):
            assert one.ask("w", c.QueryWorkflow("describe")).outcome == "answered"
        commands = one.cluster.partition(f"{app.name}.commands", 0)
        until(lambda: footers(one)[-1] == commands.end)
        kill(engine)
        end = commands.end
        del commands.entries[:]
        commands.start = end
        again = one.engine()
        until(lambda: state(again) is State.OWNED)
        one.signal("w", "go", b"7")
        assert one.result("w") == b"7"
    finally:
        one.close()


def test_a_question_alone_is_no_reason_for_a_batch() -> None:
    one = Rig(app, MemorySite(app.name, 1))
    try:
        one.engine(EngineOptions(idle_footer_s=0.05))
        one.start("w", waits)
        until(lambda: len(footers(one)) >= 2)
        for _ in range(5):
            assert one.ask("w", c.QueryWorkflow("describe")).outcome == "answered"
        assert not for_nothing(one)
    finally:
        one.close()
