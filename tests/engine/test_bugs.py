"""Bugs of workflow code stop one run: it parks, nothing is lost, and a fix resumes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Orchestrator, WorkflowFailed
from orchestrator.core import commands as c, events as e
from orchestrator.engine import announcing
from orchestrator.engine.builder import Builder
from orchestrator.engine.options import EngineOptions
from orchestrator.sdk.turn import Overlong
from tests.engine.rig import Rig

pytestmark = pytest.mark.slow

Make = Callable[[Orchestrator], Rig]
NAME = "bugs"


def application(broken: bool) -> Orchestrator:
    """One application, before and after the fix."""
    app = Orchestrator(NAME)

    @app.step(name="double")
    async def double(x: int) -> int:
        return 2 * x

    @app.workflow(name="raises")
    async def raises(x: int) -> int:
        y = await double(x)
        if broken:
            raise KeyError("a bug in workflow code")
        return y + 1

    @app.workflow(name="fine")
    async def fine(x: int) -> int:
        return await double(x)

    @app.workflow(name="endless")
    async def endless() -> int:
        while broken:
            pass
        return 5

    @app.workflow(name="swallows")
    async def swallows() -> int:
        try:
            while broken:
                pass
        except BaseException:
            return -1
        return 6

    @app.workflow(name="odd")
    async def odd() -> int:
        class Odd(int):
            pass

        return await double(Odd(3) if not broken else object())  # type: ignore[arg-type]

    @app.workflow(name="exits")
    async def exits() -> int:
        if broken:
            raise SystemExit(3)
        return 8

    return app


BROKEN, FIXED = application(True), application(False)


def workflow(name: str) -> Any:
    """A workflow of the broken application."""
    code = BROKEN.registry.workflow(name, 0)
    assert code is not None

    class Found:
        pass

    found = Found()
    found.code = code  # type: ignore[attr-defined]
    return found


def test_a_workflow_that_raises_parks_and_goes_on_after_a_fix(rig: Make) -> None:
    one = rig(BROKEN)
    engine = one.engine()
    one.start("w", workflow("raises"), 20)
    assert "a bug in workflow code" in one.parked("w")
    one.start("v", workflow("fine"), 1)
    assert one.result("v") == b"2"
    # A retry without a fix parks it again, and loses nothing.
    one.accepted("w", c.RetryWorkflow())
    one.wait_for(e.RunParked, "w", 2)
    engine.stop(1.0)
    one.engine(app=FIXED)
    one.accepted("w", c.RetryWorkflow())
    assert one.result("w") == b"41"
    assert len(one.bodies(e.StepCompleted, "w")) == 1


def test_an_engine_says_what_stands_still_and_what_to_do(rig: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sits before `orchestrator dev`, or looks at an engine's log, did not have to ask for that run."""
    one = rig(BROKEN)
    one.engine()
    one.start("w", workflow("raises"), 20)
    one.parked("w")
    # It is said behind the answer.
    one.engines.pop().stop(5.0)
    (said,) = [record.getMessage() for record in caplog.records if record.name == announcing.__name__]
    assert said.startswith("w is parked (bug): KeyError: 'a bug in workflow code' (at test_bugs.py:")
    assert said.endswith("; after a fix: orchestrator workflow retry w")


def test_a_retry_of_a_run_that_is_not_parked_is_refused(rig: Make) -> None:
    app = Orchestrator(NAME)
    go = app.signal("go", int)

    @app.workflow(name="waits")
    async def waits() -> int:
        return await go.wait()

    one = rig(app)
    one.engine()
    one.start("w", waits)
    assert one.ask("w", c.RetryWorkflow()).code == "not_parked"


def test_signals_of_a_parked_run_are_kept(rig: Make) -> None:
    def build(broken: bool) -> Orchestrator:
        app = Orchestrator(NAME)
        go = app.signal("go", int)

        @app.workflow(name="adds")
        async def adds() -> int:
            if broken:
                raise ValueError("not yet")
            return await go.wait() - await go.wait()

        return app

    broken, fixed = build(True), build(False)
    one = rig(broken)
    engine = one.engine()
    one.accepted("w", c.StartWorkflow("adds", c.NOTHING._replace(data=b"{}")))
    one.parked("w")
    one.signal("w", "go", b"10")
    one.signal("w", "go", b"4")
    engine.stop(1.0)
    one.engine(app=fixed)
    one.accepted("w", c.RetryWorkflow())
    assert one.result("w") == b"6"


@pytest.mark.parametrize("name", ["endless", "swallows"])
def test_an_endless_turn_is_parked_and_others_go_on(rig: Make, name: str) -> None:
    one = rig(BROKEN)
    engine = one.engine(EngineOptions(turn_s=0.3))
    one.start("w", workflow(name))
    for number in range(4):
        one.start(f"v{number}", workflow("fine"), number)
    assert [one.result(f"v{number}") for number in range(4)] == [b"0", b"2", b"4", b"6"]
    assert "longer than a second" in one.parked("w")
    assert one.bodies(e.RunParked, "w")[0].kind == "overlong"
    engine.stop(1.0)
    one.engine(app=FIXED)
    one.accepted("w", c.RetryWorkflow())
    assert one.result("w") in (b"5", b"6")


def test_a_turn_that_wants_to_end_the_process_parks_its_run(rig: Make) -> None:
    one = rig(BROKEN)
    one.engine()
    one.start("w", workflow("exits"))
    assert "SystemExit" in one.parked("w")


def test_a_value_that_does_not_round_trip_parks_the_run_and_names_the_step(rig: Make) -> None:
    one = rig(BROKEN)
    one.engine()
    one.start("w", workflow("odd"))
    assert "double" in one.parked("w")
    assert one.kinds("w") == ["RunStarted", "RunParked"]


def test_divergence_is_found_at_the_exact_step_and_a_fix_resumes(rig: Make) -> None:
    def build(second: str) -> Orchestrator:
        app = Orchestrator(NAME)
        go = app.signal("go", int)

        @app.step(name="first")
        async def first() -> int:
            return 1

        @app.step(name="second")
        async def second_step() -> int:
            return 2

        @app.step(name="other")
        async def other() -> int:
            return 3

        @app.workflow(name="changes")
        async def changes() -> int:
            total = await first()
            total += await (second_step() if second == "second" else other())
            return total + await go.wait()

        return app

    old, changed = build("second"), build("other")
    one = rig(old)
    engine = one.engine()
    one.accepted("w", c.StartWorkflow("changes", c.NOTHING._replace(data=b"{}")))
    one.wait_for(e.StepCompleted, "w", 2)
    engine.stop(1.0)
    engine = one.engine(app=changed)
    one.signal("w", "go", b"4")
    message = one.parked("w")
    assert one.bodies(e.RunParked, "w")[0].kind == "diverged"
    assert "second" in message
    assert "other" in message
    assert "first" not in message.replace("first in history", "")
    engine.stop(1.0)
    one.engine(app=old)
    one.accepted("w", c.RetryWorkflow())
    assert one.result("w") == b"7"
    assert len(one.bodies(e.StepScheduled, "w")) == 2


@pytest.mark.contract("bugs-others")
def test_a_bug_in_a_step_stops_nobody(rig: Make) -> None:
    app = Orchestrator(NAME)

    @app.step(retry=2, name="fails")
    async def fails() -> int:
        raise RuntimeError("a bug in a step")

    @app.step(name="works")
    async def works() -> int:
        return 3

    @app.workflow(name="failing")
    async def failing() -> int:
        return await fails()

    @app.workflow(name="working")
    async def working() -> int:
        return await works()

    one = rig(app)
    one.engine()
    one.start("w", failing)
    one.start("v", working)
    assert one.result("v") == b"3"
    answer = one.outcome("w")
    assert answer.code == "failed"
    assert answer.failure is not None
    assert "a bug in a step" in answer.failure.message
    assert len(one.bodies(e.StepAttemptFailed, "w")) == 1


@pytest.mark.contract("bugs-others")
def test_a_poisoned_message_delays_no_other(rig: Make) -> None:
    one = rig(BROKEN)
    one.engine()
    for number in range(20):
        one.send_raw(f"w{number}".encode(), b"poison", 0)
    one.start("v", workflow("fine"), 4)
    assert one.result("v") == b"8"
    assert len(one.wait_for(e.DeadLettered, None, 20)) == 20
    claims = [batch for batch in one.batches() if batch.is_claim]
    assert len(claims) == one.site.partitions, "a poisoned message cost a claim"


def test_asyncio_primitives_that_block_are_forbidden(rig: Make) -> None:
    app = Orchestrator(NAME)

    @app.workflow(name="blocks")
    async def blocks() -> int:
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 1)
        return 1

    one = rig(app)
    one.engine()
    one.start("w", blocks)
    one.parked("w")


def test_a_result_too_large_for_the_log_parks_the_run_and_contradicts_nothing(rig: Make) -> None:
    """The step before it has its result, the signal its answer: the turn alone is refused."""
    app = Orchestrator(NAME)
    go = app.signal("go", int)

    @app.step(name="small")
    async def small() -> int:
        return 1

    @app.workflow(name="shouts")
    async def shouts() -> str:
        await small()
        return "x" * 30_000

    @app.workflow(name="shouts-later")
    async def shouts_later() -> str:
        await go.wait()
        return "é" * 15_000

    one = rig(app)
    one.engine(EngineOptions(event_bytes=20_000))
    one.start("w", shouts)
    assert "20000" in one.parked("w") or "limit" in one.parked("w")
    assert one.kinds("w") == ["RunStarted", "StepScheduled", "StepCompleted", "RunParked"]
    one.start("v", shouts_later)
    signal = one.signal("v", "go", b"1")
    one.parked("v")
    story = [type(event.body).__name__ for event in one.events("v") if event.seq]
    assert story == ["RunStarted", "SignalReceived", "RunParked"]
    assert [event.cause.command_id for event in one.events("v") if event.cause.answers].count(signal) == 1


def test_a_failure_too_large_for_the_log_keeps_its_type_and_its_beginning(rig: Make) -> None:
    app = Orchestrator(NAME)

    @app.workflow(name="shouts")
    async def shouts() -> int:
        raise WorkflowFailed("é" * 15_000)

    one = rig(app)
    one.engine(EngineOptions(event_bytes=20_000))
    one.start("w", shouts)
    failure = one.outcome("w").failure
    assert failure is not None
    assert failure.type == "WorkflowFailed"
    assert failure.message.startswith("é" * 1_000)
    assert failure.message.endswith(" bytes: too large for an event)")
    assert one.kinds("w") == ["RunStarted", "RunFailed"]


def test_an_end_of_a_turn_that_lands_outside_takes_the_partition_through_a_claim(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(FIXED)
    one.engine()
    one.start("w", workflow("fine"), 1)
    one.result("w")
    decide = Builder._decide_turn
    landed: list[str] = []

    def late(builder: Builder, batch: Any, place: Any, commands: Any) -> None:
        if not landed:
            landed.append(place.workflow_id)
            raise Overlong
        decide(builder, batch, place, commands)

    monkeypatch.setattr(Builder, "_decide_turn", late)
    one.start("v", workflow("fine"), 2)
    assert one.result("v") == b"4"
    assert landed == ["v"]
