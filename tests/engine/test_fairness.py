"""Runs of one partition wait for each other's turns, never for each other's replays or timers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator import Orchestrator, continue_as_new
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import BatchId, Payload
from orchestrator.engine import updates
from orchestrator.engine.batch import Batch
from orchestrator.engine.builder import Builder
from orchestrator.engine.intake import Intake
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.run import Engine
from orchestrator.engine.timers import Timers
from orchestrator.engine.turns import Turns
from orchestrator.errors import StoreError
from orchestrator.sdk.execution import StepReport
from orchestrator.testing.clock import SkippingClock
from tests.engine.rig import Rig, until

pytestmark = pytest.mark.slow

Make = Callable[..., Rig]
TURNS = 40

app = Orchestrator("fairness")
go = app.signal("go", int)


@app.workflow
async def long(turns: int) -> int:
    """Each of its turns takes some milliseconds."""
    total = 0
    for _ in range(turns):
        total += await go.wait() + sum(range(600_000)) * 0
    return total


@app.workflow
async def restless(number: int) -> None:
    """Goes on as a new run at once, for ever."""
    continue_as_new(number + 1)


@app.workflow
async def other() -> int:
    return 1


@app.step(schedule_to_start=timedelta(seconds=60))
async def begins(_number: int) -> None:
    await ended()


@app.step(start_to_close=timedelta(seconds=60))
async def goes_on(_number: int) -> None:
    await ended()


over = threading.Event()


async def ended() -> None:
    while not over.is_set():
        await asyncio.sleep(0.01)


@app.workflow
async def at_once(held: bool) -> None:
    """Timers of one millisecond, more than a batch takes."""
    step = goes_on if held else begins
    await asyncio.gather(*(step(number) for number in range(3 * TIMERS)))


@app.workflow
async def sleeps() -> str:
    await asyncio.sleep(100)
    return "slept"


TIMERS = 10


@pytest.fixture
def the_end() -> Iterator[threading.Event]:
    """When the steps may end."""
    over.clear()
    yield over
    over.set()


def test_commands_get_into_batches_while_a_run_is_replayed(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that ends the long run was sent first: it would end first if commands waited for its replay."""
    one = rig(app, 1)
    engine = one.engine()
    one.start("long", long, TURNS)
    for _ in range(TURNS - 1):
        one.signal("long", "go", b"1")
    # In good order, however long that takes: else both are in doubt, and the long one comes first.
    engine.stop(60.0)
    one.send("long", c.SignalWorkflow("go", Payload(data=b"1")))
    one.send("other", c.StartWorkflow("other", Payload(data=b"{}")))
    replay, again = Builder.wake_later, list[Engine]()

    def with_both_commands_at_hand(*arguments: Any) -> None:
        monkeypatch.undo()
        until(lambda: bool(again) and len(again[0].partitions[0].inbox.commands) == 2)
        replay(*arguments)

    monkeypatch.setattr(Builder, "wake_later", with_both_commands_at_hand)
    again.append(one.engine())
    one.wait_for(e.RunCompleted, "other")
    one.wait_for(e.RunCompleted, "long")
    ends = [event.workflow_id for event in one.events() if isinstance(event.body, e.RunCompleted)]
    assert ends == ["other", "long"]


@pytest.mark.parametrize("held", [False, True], ids=["they-mean-nothing", "they-have-to-wait"])
def test_timers_that_cannot_fire_keep_back_none_behind_them(
    rig: Make, monkeypatch: pytest.MonkeyPatch, the_end: threading.Event, held: bool
) -> None:
    """Steps at once have their timers in one millisecond. Where the look for due ones ended, all others stood still."""
    not_yet = Timers._not_yet
    monkeypatch.setattr(Timers, "_not_yet", lambda timers, *more: held or not_yet(timers, *more))
    one, clock = rig(app, 1), SkippingClock()
    engine = one.engine(EngineOptions(timers_per_batch=TIMERS, batch_ms=1_000), clock=clock)
    one.start("w", at_once, held)
    until(lambda: len(engine.executor.running()) == 3 * TIMERS)
    one.start("v", sleeps)
    one.wait_for(e.TimerSet, "v")
    clock.skip(200)
    assert one.result("v") == b'"slept"'
    the_end.set()
    monkeypatch.undo()
    assert one.result("w") == b"null"


def test_a_run_that_continues_as_new_for_ever_holds_nobody_up(rig: Make) -> None:
    """All of them were taken into one batch, which never ended: the supervisor did the process."""
    one = rig(app, 1)
    one.engine()
    arguments = restless.code.signature.bind((1,), {})
    one.send("restless", c.StartWorkflow(restless.code.workflow_type, arguments))
    one.wait_for(e.RunContinuedAsNew, "restless", 3)
    one.start("other", other)
    assert one.result("other") == b"1"
    one.send("restless", c.TerminateWorkflow())
    one.wait_for(e.RunTerminated, "restless")


def test_an_update_to_a_run_that_goes_on_as_a_new_one_for_ever_makes_no_batch_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of those runs was woken for it, one after the other."""
    woken: list[tuple[str, str]] = []
    builder: Any = SimpleNamespace(
        overlay=SimpleNamespace(get=lambda *_: None), wake=lambda _batch, key: woken.append(key)
    )
    monkeypatch.setattr(updates, "current_run", lambda *_: (f"run {len(woken)}", SimpleNamespace()))
    batch = Batch(BatchId(1, 1), 0, 0)
    batch.bound(0, 1, False)
    body = c.UpdateWorkflow("change")
    said = updates.refusal(builder, cast(Turns, None), batch, c.Command("u", "w", body), body)
    assert said is not None
    assert (said.outcome, said.run_id) == (updates.NOT_YET, "run 1")
    assert woken == [("w", "run 0")]


def test_outcomes_that_a_release_took_are_not_lost_with_its_batch() -> None:
    """One of them could not be decided; those behind it were forgotten, and their steps begun again."""

    def fails(*_: object) -> None:
        raise StoreError("the disk is full")

    batch = Batch(BatchId(1, 1), 0, 0)
    intake: Any = SimpleNamespace(_steps=SimpleNamespace(trace_of=lambda _: ""), _report=fails)
    reports = [StepReport("w", c.ReportStep("r", f"s/{number}", 1, "")) for number in range(2)]
    with pytest.raises(StoreError):
        Intake.report(intake, batch, *reports)
    assert batch.reports == reports
