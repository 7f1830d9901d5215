"""Time-outs of steps that the engine's own executor runs, over crashes, back-offs and down-times."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Orchestrator, RetryPolicy, StepFailed, step_info
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.testing.clock import SkippingClock
from orchestrator.worker import heartbeat
from orchestrator.worker.threads import ThreadExecutor
from tests.engine.rig import PATIENCE_S, Rig, until

Make = Callable[[Orchestrator], Rig]

app = Orchestrator("local-steps")
S = timedelta(seconds=1)
HOUR = RetryPolicy(initial_interval=timedelta(milliseconds=3_600_000))
TEN = RetryPolicy(initial_interval=timedelta(milliseconds=10_000))


class Script:
    """What the steps do: each attempt waits for its own event, and tells what it found."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.changed = threading.Condition()
        self.gates: dict[int, threading.Event] = {}
        self.say: list[Any] = []
        self.raises = False

    def gate(self, attempt: int) -> threading.Event:
        """What an attempt waits for."""
        return self.gates.setdefault(attempt, threading.Event())

    def begin(self, what: Any) -> None:
        """An attempt begins."""
        with self.changed:
            self.began.append(what)
            self.changed.notify_all()

    def wait(self, count: int) -> None:
        """Wait until so many began."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.began) >= count, PATIENCE_S), self.began


script = Script()


@app.step
def works(name: str) -> str:
    """Says what it is to say, then waits for its gate."""
    info = step_info()
    for details in script.say:
        info.heartbeat(details)
    script.begin((name, info.attempt, info.details))
    if script.raises:
        raise ConnectionError("no")
    assert script.gate(info.attempt).wait(PATIENCE_S)
    return f"{name} {info.attempt}"


@app.step
def beats(name: str) -> str:
    """Says that it is alive whenever its gate opens, and ends with the third time."""
    for _ in range(3):
        script.begin(name)
        assert script.gate(len(script.began)).wait(PATIENCE_S)
        step_info().heartbeat()
    return name


@app.step
async def lasts(name: str) -> str:
    """Waits for a gate of its own, however often the attempt is begun, and says if it is told to end."""
    script.begin(name)
    gate = script.gate(len(script.began))
    try:
        while not gate.is_set():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        script.begin("told")
        raise
    return name


async def _try(options: dict[str, Any], name: str = "a", step: Any = works) -> str:
    try:
        return str(await step.options(**options)(name))
    except StepFailed as error:
        return f"{type(error).__name__}: {error}"


@app.workflow
async def slow() -> str:
    return await _try({"start_to_close": 30 * S, "retry": TEN})


@app.workflow
async def rests_an_hour() -> str:
    return await _try({"start_to_close": 30 * S, "heartbeat": 20 * S, "retry": HOUR})


@app.workflow
async def silent() -> str:
    return await _try({"heartbeat": 30 * S, "retry": TEN})


@app.workflow
async def beating() -> str:
    return await _try({"heartbeat": 30 * S, "retry": TEN}, step=beats)


@app.workflow
async def guarded() -> str:
    return await _try({"heartbeat": 30 * S, "on_crash": "park"}, step=beats)


@app.workflow
async def parks() -> str:
    return await _try({"on_crash": "park"})


@app.workflow
async def lasting() -> str:
    """Goes on long after its step."""
    said = await _try({}, step=lasts)
    await asyncio.sleep(7_200)
    return said


@app.workflow
async def in_time() -> str:
    return await _try({"schedule_to_close": 15 * S, "retry": TEN})


@app.workflow
async def too_long() -> str:
    return await _try({"schedule_to_close": 1800 * S, "retry": HOUR})


@app.workflow
async def lines_up() -> str:
    return await _try({"start_to_close": 30 * S, "retry": TEN}, step=beats)


@app.workflow
async def queued(name: str) -> str:
    return await _try({"schedule_to_start": 30 * S}, name)


class Bench:
    """A rig and its clock."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.clock = SkippingClock()
        self.engine = self.start()

    def start(self, slots: int = 8, backlog: int = 10_000) -> Any:
        """Start an engine whose executor has so many slots, and room for so many attempts that wait for one."""

        def executor(code: Orchestrator, options: ExecutorOptions, report: Any) -> ThreadExecutor:
            return ThreadExecutor(code, replace(options, slots=slots, backlog=backlog), report)

        self.engine = self.rig.engine(clock=self.clock, executor=executor)
        return self.engine

    def skip(self, seconds: float) -> None:
        """Let time pass, and have the engine look at it."""
        self.clock.skip(seconds)
        for _ in range(2):
            self.rig.ask("w", c.SignalWorkflow("tick", run_id="nowhere"))

    def hand_over(self, code: Any) -> threading.Thread:
        """A run whose step goes on in an engine that is being stopped, for an hour at most; another one took over."""
        leaving = threading.Thread(target=self.engine.stop, args=(3_600.0,))
        self.rig.start("w", code)
        script.wait(1)
        leaving.start()
        self.rig.wait_for(e.StepHandedOver, "w")
        self.start()
        self.skip(0)
        return leaving

    def failures(self) -> list[str]:
        """What made attempts fail."""
        return [body.failure.message for body in self.rig.bodies(e.StepAttemptFailed, "w")]


@pytest.fixture
def bench(rig: Make, monkeypatch: pytest.MonkeyPatch) -> Bench:
    global script
    script = Script()
    monkeypatch.setattr(heartbeat, "_SHARE", 0.0)
    return Bench(rig(app))


def test_a_late_result_after_the_retry_changes_nothing(bench: Bench) -> None:
    one = bench.rig
    one.start("w", slow)
    script.wait(1)
    bench.skip(31)
    assert bench.failures() == ["start_to_close of step works is over"]
    bench.skip(11)
    script.wait(2)
    script.gate(1).set()
    one.until("w", lambda reply: len(bench.engine.executor.running()) == 1)
    script.gate(2).set()
    assert one.result("w") == b'"a 2"'
    assert [body.attempt for body in one.bodies(e.StepCompleted, "w")] == [2]


def test_no_time_out_of_an_attempt_reaches_into_its_back_off(bench: Bench) -> None:
    script.raises, script.say = True, ["far"]
    bench.rig.start("w", rests_an_hour)
    bench.rig.wait_for(e.StepAttemptFailed, "w")
    for _ in range(4):
        bench.skip(60)
    assert bench.failures() == ["no"]
    script.raises = False
    script.gate(2).set()
    bench.skip(3_600)
    assert bench.rig.result("w") == b'"a 2"'
    assert script.began == [("a", 1, None), ("a", 2, "far")]


def test_silence_ends_an_attempt_and_its_details_reach_the_next(bench: Bench) -> None:
    script.say = [1, {"page": 2}]
    bench.rig.start("w", silent)
    script.wait(1)
    bench.rig.wait_for(e.StepHeartbeat, "w", 2)
    bench.skip(31)
    assert bench.failures() == ["heartbeat of step works is over"]
    script.gate(1).set()
    script.gate(2).set()
    bench.skip(11)
    assert bench.rig.result("w") == b'"a 2"'
    assert script.began == [("a", 1, None), ("a", 2, {"page": 2})]


@pytest.mark.parametrize(("code", "kind"), [(slow, "start_to_close"), (silent, "heartbeat")])
def test_a_step_that_was_handed_over_has_its_time_outs(bench: Bench, code: Any, kind: str) -> None:
    """The engine that is being stopped carries it out for as long as its grace time; nobody waits for it so long."""
    leaving = bench.hand_over(code)
    bench.skip(31)
    bench.rig.wait_for(e.StepAttemptFailed, "w")
    assert bench.failures() == [f"{kind} of step works is over"]
    bench.skip(11)
    script.wait(2)
    script.gate(2).set()
    assert bench.rig.result("w") == b'"a 2"'
    script.gate(1).set()
    leaving.join()


@pytest.mark.parametrize(("code", "seconds"), [(parks, 3_601), (slow, 31)])
def test_a_result_that_is_on_the_topic_when_its_time_is_over_counts(bench: Bench, code: Any, seconds: float) -> None:
    """Who judges an attempt that another engine carries out reads first what that one may have told."""
    leaving = bench.hand_over(code)
    (number,) = (
        number for number, one in bench.engine.partitions.items() if one._loop.steps.watches.next() is not None
    )
    inputs = bench.engine.log.inputs()
    inputs.pause(number)
    script.gate(1).set()
    leaving.join()
    bench.clock.skip(seconds)
    timers = bench.engine.partitions[number]._loop.intake.timers
    until(lambda: bool(timers._barriers))
    inputs.resume(number)
    assert bench.rig.result("w") == b'"a 1"'
    assert bench.rig.bodies(e.StepInterrupted, "w") == bench.failures() == []
    assert not timers._barriers


def test_who_begins_an_attempt_again_ends_it_when_the_engine_before_tells_its_outcome(bench: Bench) -> None:
    """It had run for longer than its grace time: two carry it out then, and one outcome counts."""
    leaving = bench.hand_over(lasting)
    bench.skip(3_601)
    script.wait(2)
    script.gate(1).set()
    bench.rig.wait_for(e.StepCompleted, "w")
    script.wait(3)
    assert script.began == ["a", "a", "told"]
    leaving.join()


def test_a_step_that_was_handed_over_and_beats_is_alive(bench: Bench) -> None:
    """Its heartbeats reach the next owner as commands."""
    leaving = bench.hand_over(beating)
    for count in (1, 2, 3):
        script.wait(count)
        bench.skip(20)
        script.gate(count).set()
        bench.rig.wait_for(e.StepHeartbeat, "w", count)
    assert bench.rig.result("w") == b'"a"'
    assert bench.failures() == []
    leaving.join()


def test_no_time_counts_for_an_attempt_that_finds_no_room(bench: Bench) -> None:
    bench.engine.stop(0.0)
    engine = bench.start(slots=1, backlog=1)
    for name in ("runs", "waits", "w"):
        bench.rig.start(name, slow if name == "w" else too_long)
        bench.rig.wait_for(e.StepScheduled, name)
        bench.skip(0)
    assert len(engine.executor.running()) == 2
    for _ in range(3):
        bench.skip(20)
    assert bench.failures() == []
    script.gate(1).set()
    assert bench.rig.result("w") == b'"a 1"'


def test_a_silent_step_for_which_somebody_else_beats(bench: Bench) -> None:
    one = bench.rig
    one.start("w", silent)
    script.wait(1)
    step = one.bodies(e.StepScheduled, "w")[0]
    for _ in range(3):
        bench.skip(20)
        one.accepted("w", c.ResolveStep("", f"{step.path}:{step.n}", "heartbeat", Payload(data=b"5")))
    assert bench.failures() == []
    bench.skip(31)
    assert bench.failures() == ["heartbeat of step works is over"]
    script.gate(1).set()


def test_details_that_are_too_large_fail_the_step_alone(bench: Bench) -> None:
    one = bench.rig
    script.say = ["x" * 1_200_000]
    one.start("w", silent)
    assert b"LimitExceeded" in one.result("w")
    script.gate(1).set()
    script.say = []
    one.start("v", slow)
    assert one.result("v") == b'"a 1"'


def test_a_guarded_step_that_beats_without_details_is_alive(bench: Bench) -> None:
    one = bench.rig
    one.start("w", guarded)
    for count in (1, 2, 3):
        script.wait(count)
        bench.skip(20)
        script.gate(count).set()
        one.wait_for(e.StepHeartbeat, "w", count)
    assert one.result("w") == b'"a"'
    assert bench.failures() == []


def test_a_failure_with_no_time_for_another_attempt_is_the_last(bench: Bench) -> None:
    script.raises = True
    bench.rig.start("w", too_long)
    failure = bench.rig.outcome("w").failure
    assert failure is not None
    assert failure.type == "ConnectionError"
    assert script.began == [("a", 1, None)]


def test_a_back_off_that_outlives_the_time_begins_nothing_after_a_down_time(bench: Bench) -> None:
    one = bench.rig
    script.raises = True
    one.start("w", in_time)
    one.wait_for(e.StepAttemptFailed, "w")
    bench.engine.stop(1.0)
    bench.clock.skip(60)
    bench.start()
    assert b"StepTimeout: schedule_to_close" in one.result("w")
    assert [body.timeout for body in one.bodies(e.StepFailed, "w")] == ["schedule_to_close"]
    assert one.bodies(e.StepRetried) == []
    assert script.began == [("a", 1, None)]


def test_the_whole_time_ends_a_running_attempt(bench: Bench) -> None:
    bench.rig.start("w", in_time)
    script.wait(1)
    bench.skip(16)
    assert b"StepTimeout: schedule_to_close" in bench.rig.result("w")
    script.gate(1).set()


def test_a_step_that_waits_too_long_for_a_slot(bench: Bench) -> None:
    one = bench.rig
    bench.engine.stop(1.0)
    bench.start(slots=1)
    one.start("first", queued, "first")
    script.wait(1)
    one.start("w", queued, "w")
    one.wait_for(e.StepScheduled, "w")
    bench.skip(31)
    one.ask("first", c.SignalWorkflow("tick", run_id="nowhere"))
    assert b"StepTimeout: schedule_to_start" in one.result("w")
    script.gate(1).set()
    assert one.result("first") == b'"first 1"'
    assert script.began == [("first", 1, None)]


def test_the_time_of_an_attempt_begins_with_its_slot(bench: Bench) -> None:
    """One that had lined up for most of it was ended, and repeated, a moment after its begin."""
    one = bench.rig
    bench.engine.stop(1.0)
    bench.start(slots=1)
    one.start("first", queued, "first")
    script.wait(1)
    one.start("w", lines_up)
    one.wait_for(e.StepScheduled, "w")
    for _ in range(8):
        bench.skip(5)
    script.gate(1).set()
    script.wait(2)
    bench.skip(5)
    bench.skip(25)
    assert bench.failures() == []
    bench.skip(10)
    assert bench.failures() == ["start_to_close of step beats is over"]
    for number in range(2, 8):
        script.gate(number).set()
    bench.skip(11)
    assert one.result("w") == b'"a"'


def test_a_step_completed_by_hand_is_told_to_end(bench: Bench) -> None:
    one = bench.rig
    one.start("w", slow)
    script.wait(1)
    step = one.bodies(e.StepScheduled, "w")[0]
    one.accepted("w", c.ResolveStep("", f"{step.path}:{step.n}", "complete", Payload(data=b'"mine"')))
    assert one.result("w") == b'"mine"'
    token = next(iter(bench.engine.executor.running()))
    executor: Any = bench.engine.executor
    one.until("w", lambda reply: executor._running[token]._cancelled)
    script.gate(1).set()
