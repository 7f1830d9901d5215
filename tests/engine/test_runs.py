"""What a run can do: timers, retries, children, continue-as-new, cancel, terminate, queries."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import ChildFailed, Orchestrator, RetryPolicy, StepFailed, StepTimeout, continue_as_new, run_info
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Failure, Payload
from orchestrator.testing.clock import SkippingClock
from tests.engine.rig import Rig

Make = Callable[[Orchestrator], Rig]

app = Orchestrator("runs")
go = app.signal("go", int)
total = app.query("total", int)
COLOUR = app.attribute("colour", str)
attempts: dict[str, int] = {}
QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=5))


class Busy(Exception):
    """Says when to come back."""

    def __init__(self, after: timedelta) -> None:
        super().__init__("busy")
        self.next_retry_delay = after


@app.step(retry=QUICK)
async def flaky(name: str, failures: int) -> int:
    """Fails so many times."""
    attempts[name] = attempts.get(name, 0) + 1
    if attempts[name] <= failures:
        raise ConnectionError("try again")
    return attempts[name]


@app.step
async def rate_limited(name: str) -> int:
    """Asks for an hour once."""
    attempts[name] = attempts.get(name, 0) + 1
    if attempts[name] == 1:
        raise Busy(timedelta(hours=1))
    return attempts[name]


@app.step(timeout=timedelta(milliseconds=100), retry=1)
async def sleepy() -> int:
    """Longer than it may take."""
    await asyncio.sleep(20)
    return 1


@app.step
async def long() -> str:
    """Runs until it is cancelled."""
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        attempts["cancelled"] = attempts.get("cancelled", 0) + 1
        raise
    return "ended"


@app.workflow
async def retries(name: str, failures: int) -> int:
    return await flaky(name, failures)


@app.workflow
async def waits_an_hour(name: str) -> int:
    return await rate_limited(name)


@app.workflow
async def times_out() -> str:
    try:
        await sleepy()
    except StepTimeout as error:
        return f"{type(error).__name__}: {error}"
    return "?"


@app.workflow
async def sums() -> int:
    seen = 0
    total.answer(lambda: seen)
    while True:
        value = await go.wait()
        if value == 0:
            return seen
        seen += value


@app.workflow
async def cancellable() -> str:
    try:
        return await long()
    except asyncio.CancelledError:
        await flaky("cleanup", 0)
        raise


@app.workflow
async def stubborn() -> str:
    try:
        await go.wait()
    except asyncio.CancelledError:
        return "not today"
    return "?"


@app.workflow
async def child(x: int) -> int:
    if x < 0:
        raise ValueError("negative") if x == -1 else StepFailed("declared", "Declared")
    return x * x


@app.workflow
async def parent(x: int) -> int:
    return 1 + await child(x)


@app.workflow
async def forgiving(x: int) -> str:
    try:
        return str(await child(x))
    except ChildFailed as error:
        return f"{type(error).__name__}: {error}"


@app.workflow
async def patient() -> int:
    return 1 + await sums.options(id="the-child")()


@app.workflow
async def impatient(policy: str) -> int:
    return 1 + await sums.options(id=f"child-{policy}", close_policy=policy)()


@app.workflow
async def again(left: int, before: str) -> list[str]:
    here = run_info().run_id
    if left:
        continue_as_new(left - 1, here)
    return [before, here]


@app.workflow
async def tells(other: str) -> None:
    go.send(other, 5)
    go.send(other, 0)


@app.workflow
async def races() -> str:
    value = await go.wait(timeout=timedelta(hours=2))
    return "time" if value is None else f"signal {value}"


@app.workflow
async def naps(hours: int) -> int:
    await asyncio.sleep(3600 * hours)
    return hours


def test_a_step_is_retried_until_it_works(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", retries, "three", 3)
    assert one.result("w") == b"4"
    assert one.kinds("w") == [
        "RunStarted", "StepScheduled", *["StepAttemptFailed", "StepRetried"] * 3, "StepCompleted", "RunCompleted",
    ]  # fmt: skip
    failed = [event for event in one.events("w") if isinstance(event.body, e.StepAttemptFailed)]
    delays = [event.body.retry_at_ms - event.recorded_at_ms for event in failed]
    assert delays == [5, 10, 20]


def test_retry_after_is_a_durable_timer(rig: Make) -> None:
    one, clock = rig(app), SkippingClock()
    engine = one.engine(clock=clock)
    one.start("w", waits_an_hour, "limited")
    failed = one.wait_for(e.StepAttemptFailed, "w")[0]
    assert failed.retry_at_ms - one.events("w")[-1].recorded_at_ms == 3_600_000
    assert engine.executor.running() == set()
    engine.stop(1.0)
    one.stores.clear()
    # Another process, an hour later.
    clock.skip(3_601)
    one.engine(clock=clock)
    assert one.result("w") == b"2"


def test_a_step_that_takes_too_long_times_out(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", times_out)
    assert b"StepTimeout" in one.result("w")
    assert one.bodies(e.StepFailed, "w")[0].timeout == "start_to_close"


def test_time_passes_for_runs_that_sleep(rig: Make) -> None:
    one, clock = rig(app), SkippingClock()
    one.engine(clock=clock)
    for hours in (3, 1, 2):
        one.start(f"w{hours}", naps, hours)
    one.start("race", races)
    one.wait_for(e.TimerSet, None, 4)
    fired = []
    for hours in (1, 2, 3):
        clock.skip(3_600)
        assert one.result(f"w{hours}") == b"%d" % hours
        fired.append(len(one.bodies(e.TimerFired)))
    assert fired[0] < fired[2]
    assert one.result("race") == b'"time"'


def test_a_signal_wins_over_a_later_timer(rig: Make) -> None:
    one, clock = rig(app), SkippingClock()
    one.engine(clock=clock)
    one.start("w", races)
    one.signal("w", "go", b"3")
    assert one.result("w") == b'"signal 3"'
    assert "TimerCancelled" in one.kinds("w")
    clock.skip(3 * 3_600)
    one.start("v", retries, "later", 0)
    one.result("v")
    assert one.bodies(e.TimerFired) == []


def test_queries_of_running_and_closed_runs(rig: Make) -> None:
    one = rig(app)
    engine = one.engine()

    def ask() -> bytes:
        reply = one.ask("w", c.QueryWorkflow("code", name="total"))
        assert reply.outcome == "answered", reply
        return reply.result.data

    one.start("w", sums)
    assert ask() == b"0"
    one.signal("w", "go", b"4")
    one.signal("w", "go", b"5")
    assert ask() == b"9"
    before = len(one.events())
    engine.stop(1.0)
    one.engine()
    assert ask() == b"9"
    assert len(one.events("w")) == len(one.kinds("w")) <= before
    one.signal("w", "go", b"0")
    one.result("w")
    assert ask() == b"9"
    assert one.ask("w", c.QueryWorkflow("code", name="nothing")).outcome == "rejected"
    assert one.ask("nobody", c.QueryWorkflow("describe")).code == "not_found"
    assert one.ask("w", c.QueryWorkflow("unheard")).outcome == "rejected"


def test_describe_and_history(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", sums)
    described = json.loads(one.ask("w", c.QueryWorkflow("describe")).result.data)
    assert described["status"] == "running"
    assert described["why"]
    one.signal("w", "go", b"0")
    one.result("w")
    page = Payload(data=b'{"limit": 2}')
    first = json.loads(one.ask("w", c.QueryWorkflow("history", arguments=page)).result.data)
    assert (len(first["events"]), first["next_seq"]) == (2, 3)
    rest = Payload(data=b'{"from_seq": 3}')
    second = json.loads(one.ask("w", c.QueryWorkflow("history", arguments=rest)).result.data)
    assert [event["seq"] for event in first["events"] + second["events"]] == [1, 2, 3]
    assert second["next_seq"] is None


def test_cancel_reaches_the_running_step_and_the_code(rig: Make) -> None:
    attempts.clear()
    one = rig(app)
    engine = one.engine()
    one.start("w", cancellable)
    one.wait_for(e.StepScheduled, "w")
    one.until("w", lambda reply: bool(engine.executor.running()))
    one.accepted("w", c.CancelWorkflow())
    assert one.outcome("w").code == "cancelled"
    assert one.kinds("w")[-1] == "RunCancelled"
    assert one.ask("w", c.CancelWorkflow()).code == "run_closed"
    assert attempts == {"cancelled": 1, "cleanup": 1}


def test_a_run_may_refuse_to_be_cancelled(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", stubborn)
    one.accepted("w", c.CancelWorkflow())
    assert one.result("w") == b'"not today"'


def test_terminate_ends_at_once_and_the_code_sees_nothing(rig: Make) -> None:
    attempts.clear()
    one = rig(app)
    engine = one.engine()
    one.start("w", cancellable)
    one.until("w", lambda reply: bool(engine.executor.running()))
    one.accepted("w", c.TerminateWorkflow())
    assert one.outcome("w").code == "terminated"
    deadline = time.monotonic() + 10
    while engine.executor.running():
        assert time.monotonic() < deadline, "the step of a terminated run goes on"
        time.sleep(0.01)
    assert "cleanup" not in attempts
    assert one.kinds("w")[-1] == "RunTerminated"


def test_run_timeout(rig: Make) -> None:
    one, clock = rig(app), SkippingClock()
    one.engine(clock=clock)
    one.start("w", sums, run_timeout_ms=60_000)
    clock.skip(61)
    answer = one.outcome("w")
    assert answer.code == "failed"
    assert answer.failure is not None
    assert answer.failure.type == "TimeoutError"


def test_start_delay(rig: Make) -> None:
    one, clock = rig(app), SkippingClock()
    one.engine(clock=clock)
    one.start("w", retries, "delayed", 0, start_delay_ms=3_600_000)
    assert "delay" in json.loads(one.ask("w", c.QueryWorkflow("describe")).result.data)["why"]
    assert one.kinds("w") == ["RunStarted"]
    clock.skip(3_601)
    assert one.result("w") == b"1"


# -- children ----------------------------------------------------------------------------------------------------------


def test_a_child_completes(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", parent, 5)
    assert one.result("w") == b"26"
    assert one.kinds("w") == ["RunStarted", "ChildScheduled", "ChildStarted", "ChildCompleted", "RunCompleted"]


@app.workflow(limits=[app.limit("ranks", concurrency=1)])
async def described() -> None:
    """Ends at once."""


@app.workflow
async def particular() -> None:
    """Starts a child with every option that a child may have."""
    minutes = [timedelta(minutes=n) for n in range(3)]
    await described.options(
        id="the-described",
        conflict="terminate_existing",
        reuse="allow_if_failed",
        start_delay=timedelta(milliseconds=1),
        execution_timeout=minutes[2],
        run_timeout=minutes[1],
        close_policy="abandon",
        priority=5,
        memo={"for": "whom"},
        attributes=[COLOUR.of("red")],
        summary="in words",
    )()


def test_a_child_has_every_option_of_its_start(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", particular)
    one.result("w")
    (scheduled,), (started,) = one.bodies(e.ChildScheduled, "w"), one.bodies(e.RunStarted, "the-described")
    assert (scheduled.conflict, scheduled.reuse) == ("terminate_existing", "allow_if_failed")
    assert (scheduled.close_policy, scheduled.priority) == ("abandon", 5)
    times = (started.start_delay_ms, started.execution_timeout_ms, started.run_timeout_ms)
    assert times == (1, 120_000, 60_000)
    assert (started.memo.data, started.summary) == (b'{"for":"whom"}', "in words")
    assert started.attributes == (COLOUR.of("red"),)
    assert [need.priority for need in started.limits] == [5]


def test_a_child_s_failure_is_the_parent_s_to_handle(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", forgiving, -2)
    assert b"ChildFailed" in one.result("w")
    assert [body.outcome for body in one.bodies(e.ChildFailed, "w")] == ["failed"]
    one.start("v", parent, -2)
    assert one.outcome("v").code == "failed"


def test_a_child_whose_id_is_taken_is_rejected(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("the-child", sums)
    one.start("w", patient)
    assert one.outcome("w").code == "failed"
    assert [body.outcome for body in one.bodies(e.ChildFailed, "w")] == ["rejected"]
    one.signal("the-child", "go", b"0")
    assert one.result("the-child") == b"0"


@pytest.mark.parametrize(
    ("policy", "outcome"), [("terminate", "terminated"), ("request_cancel", "cancelled"), ("abandon", "completed")]
)
def test_a_closed_parent_s_child(rig: Make, policy: str, outcome: str) -> None:
    one = rig(app)
    one.engine()
    one.start("w", impatient, policy)
    one.wait_for(e.ChildStarted, "w")
    one.accepted("w", c.TerminateWorkflow())
    child_id = f"child-{policy}"
    if policy == "abandon":
        one.signal(child_id, "go", b"7")
        one.signal(child_id, "go", b"0")
    assert one.outcome(child_id).code == outcome
    # The outcome finds the parent closed: a recorded rejection, nothing after the parent's end.
    one.wait_for(e.CommandRejected, "w")
    run = [event for event in one.events("w") if event.seq]
    assert isinstance(run[-1].body, e.RunTerminated)


def test_continue_as_new_is_followed(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", again, 3, "")
    before, here = json.loads(one.result("w"))
    assert before != here
    runs = [event.run_id for event in one.events("w") if isinstance(event.body, e.RunStarted)]
    assert len(set(runs)) == 4
    assert runs[-2:] == [before, here]
    first = one.ask("w", c.QueryWorkflow("result", runs[0]))
    assert (first.code, first.message) == ("continued_as_new", runs[1])


def test_a_signal_to_another_workflow_arrives_once(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("target", sums)
    one.start("w", tells, "target")
    assert one.result("target") == b"5"


def test_a_person_ends_a_step(rig: Make) -> None:
    one = rig(app)
    one.engine()
    for workflow, action, fields in (
        ("done", "complete", {"result": Payload(data=b'"by hand"')}),
        ("failed", "fail", {"failure": Failure("Person", "no", retryable=False)}),
    ):
        one.start(workflow, cancellable)
        scheduled: Any = one.wait_for(e.StepScheduled, workflow)[0]
        one.accepted(workflow, c.ResolveStep("", f"{scheduled.path}:{scheduled.n}", action, **fields))
    assert one.result("done") == b'"by hand"'
    assert one.outcome("failed").code == "failed"
