"""`describe` says in a sentence why a run does not go on: every case."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator import Orchestrator, RetryPolicy
from orchestrator.core import commands as c
from orchestrator.core.values import Failure
from orchestrator.engine import relatives, waits
from orchestrator.engine.turns import Turns
from orchestrator.testing.clock import SkippingClock
from tests.engine.rig import PATIENCE_S, Rig
from tests.engine.workers import HandWorker

Make = Callable[[Orchestrator], Rig]

app = Orchestrator("waits")
go = app.signal("go", int)
let_go = threading.Event()


@app.step
def slow() -> int:
    let_go.wait(PATIENCE_S)
    return 1


@app.step(retry=RetryPolicy(initial_interval=timedelta(milliseconds=3_600_000)))
def failing() -> int:
    raise ConnectionError("the provider is out")


@app.step(queue="gpu")
async def render() -> int:
    raise AssertionError("runs elsewhere")


@app.workflow
async def steps() -> int:
    return await slow()


@app.workflow
async def retries() -> int:
    return await failing()


@app.workflow
async def remote(on_crash: str) -> int:
    return await render.options(on_crash=on_crash)()


@app.workflow
async def sleeps() -> None:
    await asyncio.sleep(3_600)


@app.workflow
async def listens() -> int:
    return await go.wait()


@app.workflow
async def listens_for_an_hour() -> int | None:
    return await go.wait(timeout=timedelta(hours=1))


@app.workflow
async def parent() -> int:
    return await listens.options(id="the-child")()


@app.workflow
async def stays() -> int:
    try:
        return await go.wait()
    except asyncio.CancelledError:
        return await go.wait()


@app.workflow
async def wrong() -> int:
    raise ZeroDivisionError("a bug")


@app.workflow
async def many() -> list[int]:
    return list(await asyncio.gather(*(render() for _ in range(5))))


def described(one: Rig, workflow: str) -> str:
    """The sentence as it is now."""
    return str(json.loads(one.ask(workflow, c.QueryWorkflow("describe")).result.data)["why"])


def said(one: Rig, workflow: str, *words: str) -> str:
    """Ask until the sentence has all the words."""
    deadline = time.monotonic() + PATIENCE_S
    found = ""
    while time.monotonic() < deadline:
        found = described(one, workflow)
        if all(word in found for word in words):
            return found
        one.site.wait(0.02)
    raise AssertionError(f"{workflow}: {found!r} lacks some of {words}")


def test_a_step_that_runs_and_one_that_is_tried_again(rig: Make) -> None:
    let_go.clear()
    one = rig(app)
    one.engine()
    one.start("w", steps)
    said(one, "w", "step slow (0:1) runs (attempt 1, since 20")
    one.start("v", retries)
    said(one, "v", "step failing (0:1) failed (ConnectionError: the provider is out); attempt 2 begins at 20", "Z")
    let_go.set()
    assert one.result("w") == b"1"
    assert described(one, "w") == "it is completed"


def test_steps_on_a_queue(rig: Make) -> None:
    one = rig(app)
    worker = HandWorker(one, "gpu", "worker-7")
    one.engine()
    one.start("w", remote, "park")
    said(one, "w", "step render (0:1) waits for a worker of queue gpu (attempt 1")
    offer = worker.take()
    said(one, "w", "step render (0:1) runs at worker worker-7 (attempt 1")
    failure = Failure("StepCrashed", "out of memory")
    body = c.ReportStep(offer.run_id, offer.step, offer.attempt, offer.token, failure=failure, crashed=True)
    one.ask("w", body)
    said(
        one,
        "w",
        "step render (0:1) is parked (StepCrashed: out of memory)",
        "orchestrator step complete|fail|retry w 0:1",
    )


def test_only_some_of_many_are_named(rig: Make) -> None:
    one = rig(app)
    HandWorker(one, "gpu")
    one.engine()
    one.start("w", many)
    assert said(one, "w", "2 more").count("waits for a worker of queue gpu") == 3


def test_timers_and_signals(rig: Make) -> None:
    one, clock = rig(app), SkippingClock()
    engine = one.engine(clock=clock)
    one.start("timer", sleeps)
    one.start("signal", listens)
    one.start("both", listens_for_an_hour)
    said(one, "timer", "waits for a timer until 20", "Z")
    said(one, "signal", "waits for signal go")
    said(one, "both", "waits for signal go, waits for a timer until 20")
    engine.stop(1.0)
    one.engine(clock=clock)
    assert described(one, "signal") == "waits for signal go", "a run that is not in memory"


def test_a_long_history_is_not_replayed_for_a_look(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold up the whole partition: a run of 100,000 steps for half a minute."""
    one = rig(app)
    engine = one.engine()
    one.start("signal", listens)
    one.start("both", listens_for_an_hour)
    said(one, "signal", "waits for signal go")
    said(one, "both", "waits for signal go")
    monkeypatch.setattr(waits, "REPLAYED", 0)
    assert described(one, "signal") == "waits for signal go", "it is in memory"
    engine.stop(1.0)
    monkeypatch.setattr(Turns, "ask", lambda *given: pytest.fail("replayed"))
    monkeypatch.setattr(relatives, "LOOKED_AT", 0)
    one.engine()
    assert described(one, "signal").endswith("left memory: 1 events are not replayed for a look")
    assert "left memory: " in (both := described(one, "both"))
    assert "waits for a timer until 20" in both


def test_a_child(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", parent)
    said(one, "w", "waits for child workflow listens (the-child)")
    said(one, "the-child", "waits for signal go")


def test_parked_delayed_and_without_code(rig: Make) -> None:
    one, clock = rig(app), SkippingClock()
    one.engine(clock=clock)
    one.start("w", wrong)
    one.parked("w")
    said(one, "w", "parked (bug): ", "a bug", "after a fix: orchestrator workflow retry w")
    one.start("later", sleeps, start_delay_ms=3_600_000)
    said(one, "later", "its start delay ends at 20", "Z")
    one.accepted("unknown", c.StartWorkflow("nobody_has_it"))
    said(one, "unknown", "waits for code: this engine has no nobody_has_it; it goes on where that is deployed")


def test_a_run_that_was_asked_to_cancel(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", stays)
    one.accepted("w", c.CancelWorkflow())
    said(one, "w", "it was asked to cancel and has not ended yet: waits for signal go")
