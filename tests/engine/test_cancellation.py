"""A run's cancellation and its steps: modes `try`, `wait` and `abandon`; delivered once, never used up."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Orchestrator, RetryPolicy, StepFailed, step_info
from orchestrator.core import commands as c, events as e
from orchestrator.engine.options import EngineOptions
from tests.engine.rig import PATIENCE_S, KafkaSite, Rig, kill

pytestmark = pytest.mark.slow

Make = Callable[[Orchestrator], Rig]

app = Orchestrator("cancellation")
go = app.signal("go", int)


class Script:
    """Whether the stubborn step may end, and what steps saw."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.began: list[str] = []
        self.saw: list[str] = []


script = Script()


@app.step(cancellation="wait")
def stubborn(name: str) -> str:
    """Ends when the test says so, whoever cancels it."""
    script.began.append(name)
    assert script.end.wait(PATIENCE_S)
    if name == "fails":
        raise LookupError("nothing there")
    return name


@app.step(cancellation="wait")
async def willing(name: str) -> str:
    """Ends as asked."""
    script.began.append(name)
    try:
        await asyncio.sleep(PATIENCE_S)
    finally:
        script.saw.append("cancelled")
    return name


@app.step(cancellation="wait")
def asking(name: str) -> str:
    """A step in a thread that asks."""
    script.began.append(name)
    for _ in range(10_000):
        try:
            step_info().heartbeat()
        except asyncio.CancelledError:
            script.saw.append("asked")
            raise
        script.end.wait(0.01)
    return name


@app.step(cancellation="wait", retry=RetryPolicy(initial_interval=timedelta(milliseconds=3_600_000)))
async def failing(name: str) -> str:
    """Waits an hour for its next attempt."""
    script.began.append(name)
    raise ConnectionError("later")


@app.step(cancellation="abandon")
async def left(name: str) -> str:
    """Is left to itself."""
    script.began.append(name)
    await asyncio.to_thread(script.end.wait, PATIENCE_S)
    script.saw.append("ended")
    return name


@app.step
async def clean(what: str) -> str:
    """What is done about it."""
    script.began.append(f"clean {what}")
    return what


async def _guarded(code: Any) -> str:
    seen = "nothing"
    try:
        seen = await code()
        await clean("too much")
    except asyncio.CancelledError:
        await clean(seen)
        raise
    return seen


@app.workflow
async def awaits() -> str:
    return await _guarded(lambda: stubborn("a"))


@app.workflow
async def awaits_a_task() -> str:
    return await _guarded(lambda: asyncio.create_task(_inner()))


async def _inner() -> str:
    return await stubborn("a")


@app.workflow
async def gathers() -> str:
    async def both() -> str:
        return "".join(await asyncio.gather(stubborn("a"), stubborn("b")))

    return await _guarded(both)


@app.workflow
async def survives() -> str:
    async def forgiving() -> str:
        try:
            return await stubborn("fails")
        except (StepFailed, LookupError) as error:
            return type(error).__name__

    return await _guarded(forgiving)


@app.workflow
async def returns() -> str:
    return await stubborn("a")


@app.workflow
async def sleeps_on() -> str:
    await stubborn("a")
    await asyncio.sleep(3_600)
    return "?"


@app.workflow
async def hears_once() -> str:
    await stubborn("a")
    try:
        await go.wait()
    except asyncio.CancelledError:
        return f"{await go.wait()}"
    return "?"


@app.workflow
async def limited() -> str:
    """A limit of the code's own, not a cancellation of the run."""
    async with asyncio.timeout(0.05):
        first = await stubborn("a")
    return first + await clean("after")


@app.workflow
async def gives_way() -> str:
    return await willing("a")


@app.workflow
async def asks() -> str:
    return await asking("a")


@app.workflow
async def backs_off() -> str:
    return await failing("a")


@app.workflow
async def leaves() -> str:
    return await left("a")


@pytest.fixture(params=["memory", "evicted", pytest.param("kafka", marks=pytest.mark.broker)])
def one(rig: Make, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig whose runs stay in memory, or are replayed at every turn; or one on a real broker."""
    global script
    script = Script()
    if request.param != "kafka":
        made = rig(app)
        made.engine(EngineOptions(evict_after_turn=request.param == "evicted"))
        yield made
        return
    monkeypatch.setattr(app, "name", f"cancellation-{uuid.uuid4().hex[:8]}")
    made = Rig(app, KafkaSite(app.name, request.getfixturevalue("kafka").bootstrap))
    made.engine()
    yield made
    made.close()


def story(one: Rig) -> list[str]:
    """The run's history without its steps' beginnings."""
    return [type(event.body).__name__ for event in one.events("w") if event.seq][1:]


def cancel_while_it_runs(one: Rig, code: Any, count: int = 1) -> None:
    """Start the run, and cancel it once so many steps run."""
    one.start("w", code)
    one.until("w", lambda reply: len(script.began) == count)
    one.accepted("w", c.CancelWorkflow())


@pytest.mark.contract("cancel")
@pytest.mark.parametrize(
    ("code", "count", "seen"),
    [(awaits, 1, "a"), (survives, 1, "LookupError"), (awaits_a_task, 1, "nothing"), (gathers, 2, "nothing")],
)
def test_a_result_does_not_use_the_cancellation_up(one: Rig, code: Any, count: int, seen: str) -> None:
    cancel_while_it_runs(one, code, count)
    one.wait_for(e.StepCancelRequested, "w", count)
    script.end.set()
    assert one.outcome("w").code == "cancelled"
    assert script.began[count:] == [f"clean {seen}"], "nothing new was begun but the code's own cleaning up"
    assert len(one.bodies(e.StepScheduled, "w")) == count + 1


def test_code_that_returns_the_result_completes(one: Rig) -> None:
    cancel_while_it_runs(one, returns)
    one.wait_for(e.StepCancelRequested, "w")
    script.end.set()
    assert one.result("w") == b'"a"'
    assert story(one) == ["StepScheduled", "CancelRequested", "StepCancelRequested", "StepCompleted", "RunCompleted"]


def test_the_next_await_may_be_any(one: Rig) -> None:
    cancel_while_it_runs(one, sleeps_on)
    script.end.set()
    assert one.outcome("w").code == "cancelled"
    assert "TimerSet" not in story(one)


@pytest.mark.contract("cancel")
def test_it_is_delivered_once(one: Rig) -> None:
    cancel_while_it_runs(one, hears_once)
    script.end.set()
    one.wait_for(e.StepCompleted, "w")
    one.signal("w", "go", b"5")
    assert one.result("w") == b'"5"'


def test_a_limit_of_the_code_leaves_nothing_behind(one: Rig) -> None:
    one.start("w", limited)
    one.wait_for(e.StepCancelRequested, "w")
    script.end.set()
    assert one.result("w") == b'"aafter"'


@pytest.mark.contract("step-cancel")
def test_a_step_that_gives_way_is_cancelled(one: Rig) -> None:
    cancel_while_it_runs(one, gives_way)
    assert one.outcome("w").code == "cancelled"
    assert story(one)[-2:] == ["StepCancelled", "RunCancelled"]
    assert script.saw == ["cancelled"]


@pytest.mark.contract("step-cancel")
def test_a_thread_that_asks_gets_an_exception(one: Rig) -> None:
    cancel_while_it_runs(one, asks)
    assert one.outcome("w").code == "cancelled"
    assert story(one)[-2:] == ["StepCancelled", "RunCancelled"]
    assert script.saw == ["asked"]


@pytest.mark.contract("step-cancel")
def test_a_back_off_is_not_waited_for(one: Rig) -> None:
    one.start("w", backs_off)
    one.wait_for(e.StepAttemptFailed, "w")
    one.accepted("w", c.CancelWorkflow())
    assert one.outcome("w").code == "cancelled"
    assert script.began == ["a"]
    assert story(one)[-3:] == ["StepCancelRequested", "StepCancelled", "RunCancelled"]


@pytest.mark.contract("step-cancel-modes")
def test_an_abandoned_step_is_not_told(one: Rig) -> None:
    cancel_while_it_runs(one, leaves)
    assert one.outcome("w").code == "cancelled"
    assert "StepCancelRequested" not in story(one)


def test_a_step_cancelled_in_the_batch_of_its_start_does_not_go_on(rig: Make) -> None:
    global script
    script = Script()
    one = rig(app)
    one.send("w", c.StartWorkflow("gives_way", gives_way.code.signature.bind((), {})))
    one.send("w", c.CancelWorkflow())
    engine = one.engine()
    assert one.outcome("w").code == "cancelled"
    assert [event.batch_no for event in one.events("w")][:4] == [1] * 4
    assert engine.executor.running() == set()


def test_a_cancelled_step_that_was_handed_over_is_not_begun_again(rig: Make) -> None:
    global script
    script = Script()
    one = rig(app)
    first = one.engine()
    one.start("w", awaits)
    one.until("w", lambda reply: script.began == ["a"])
    first.stop(0.5)
    one.wait_for(e.StepHandedOver, "w")
    one.send("w", c.CancelWorkflow())
    one.engine()
    assert one.outcome("w").code == "cancelled"
    assert script.began == ["a", "clean nothing"]
    script.end.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_cancelled_step_of_a_dead_engine_is_not_begun_again(rig: Make) -> None:
    global script
    script = Script()
    one = rig(app)
    first = one.engine()
    one.start("w", awaits)
    one.until("w", lambda reply: script.began == ["a"])
    one.accepted("w", c.CancelWorkflow())
    one.wait_for(e.StepCancelRequested, "w")
    kill(first)
    one.engine()
    assert one.outcome("w").code == "cancelled"
    assert script.began == ["a", "clean nothing"]
    script.end.set()
