"""Steps on task queues, from the engine's side: grants, leases, time-outs, and word of the end to the worker."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Orchestrator, RetryPolicy, StepFailed
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Failure, Payload
from orchestrator.testing.clock import SkippingClock
from tests.engine.rig import Rig
from tests.engine.workers import HandWorker

Make = Callable[[Orchestrator], Rig]

app = Orchestrator("remote-steps")
S = timedelta(seconds=1)
NO = Failure("ValueError", "no")


@app.step(queue="gpu", retry=RetryPolicy(initial_interval=timedelta(milliseconds=10_000)))
async def render(x: int) -> int:
    """Only its name leaves this process."""
    raise AssertionError("runs elsewhere")


async def _render(**options: Any) -> str:
    try:
        return str(await render.options(**options)(7))
    except StepFailed as error:
        return f"{type(error).__name__}: {error}"


@app.workflow
async def plain() -> str:
    return await _render()


@app.workflow
async def failing() -> str:
    return await _render(on_crash="fail")


@app.workflow
async def parking() -> str:
    return await _render(on_crash="park")


@app.workflow
async def beating() -> str:
    return await _render(heartbeat=10 * S)


@app.workflow
async def bounded() -> str:
    return await _render(start_to_close=30 * S, schedule_to_close=60 * S)


@app.workflow
async def hurried() -> str:
    return await _render(schedule_to_start=30 * S)


@app.workflow
async def waiting() -> str:
    return str(await render.options(cancellation="wait")(7))


class Bench:
    """A rig, its clock, and a worker played by hand."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.clock = SkippingClock()
        self.worker = HandWorker(rig, "gpu")
        rig.engine(clock=self.clock)

    def skip(self, seconds: float) -> None:
        """Let time pass, and have every due timer fired: the engine answers only after it looked at them."""
        self.clock.skip(seconds)
        for _ in range(2):
            self.rig.ask("w", c.SignalWorkflow("tick", run_id="nowhere"))


@pytest.fixture
def bench(rig: Make) -> Bench:
    return Bench(rig(app))


def failures(rig: Rig) -> list[str]:
    """Types of the failed attempts."""
    return [body.failure.type for body in rig.bodies(e.StepAttemptFailed, "w")]


def story(rig: Rig) -> list[str]:
    """Names of the run's own events."""
    return [type(event.body).__name__ for event in rig.events("w") if event.seq]


def test_the_first_to_ask_gets_the_grant_and_reports(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", plain)
    offer = worker.take()
    assert (offer.name, offer.on_crash, offer.idempotency_key.count("/")) == ("render", "retry", 2)
    again = worker.ask(offer)
    assert (again.outcome, again.code) == ("rejected", "already_granted")
    assert worker.report(offer, 3).outcome == "accepted"
    assert one.result("w") == b'"3"'
    assert worker.report(offer, 4).code == "stale_attempt"
    assert one.stops == [], "a worker whose report was taken knows"


def test_an_offer_that_nobody_takes_is_made_again_after_twice_as_long(bench: Bench) -> None:
    bench.rig.start("w", plain)
    first = bench.worker.offer()
    bench.skip(11)
    offers = 2
    for wait_s in (20, 40, 80, 160, 300, 300):
        assert bench.worker.offers() == [first] * offers
        bench.skip(wait_s / 2)
        assert len(bench.worker.offers()) == offers, f"not after {wait_s / 2:g} s"
        bench.skip(wait_s / 2 + 1)
        offers += 1
    assert len(bench.worker.offers()) == offers
    bench.worker.take()
    bench.skip(600)
    assert len(bench.worker.offers()) == offers


def test_heartbeats_keep_a_lease(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", plain)
    offer = worker.take(lease_ms=60_000)
    for _ in range(3):
        bench.skip(40)
        assert worker.beat(offer).outcome == "accepted"
    assert worker.report(offer, 1).outcome == "accepted"
    assert failures(one) == []


def test_a_lease_that_runs_out_is_tried_again(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", plain)
    first = worker.take(lease_ms=60_000)
    bench.skip(61)
    assert [body.failure.type for body in one.bodies(e.StepAttemptFailed, "w")] == ["StepLeaseExpired"]
    assert [(stop.token, stop.over) for stop in one.wait_stops()] == [(first.token, True)]
    assert worker.beat(first).code == "stale_attempt"
    assert worker.report(first, 1).code == "stale_attempt"
    bench.skip(11)
    second = worker.take(2, lease_ms=60_000)
    assert worker.report(first, 1).code == "stale_attempt"
    worker.report(second, 2)
    assert one.result("w") == b'"2"'
    rejected = [body.code for body in one.bodies(e.CommandRejected, "w") if body.command == "ReportStep"]
    assert rejected == ["stale_attempt"] * 2, "a late result is on record"
    bench.skip(120)
    assert failures(one) == ["StepLeaseExpired"]


def test_on_crash_of_a_call_is_that_of_its_lease(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", failing)
    assert worker.take(lease_ms=60_000).on_crash == "fail"
    bench.skip(61)
    assert b"silent for 60000 ms" in one.result("w")
    assert story(one)[3:5] == ["StepInterrupted", "StepFailed"]
    assert len(one.wait_stops()) == 1


def test_a_parked_step_of_a_lost_worker_waits_for_a_person(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", parking)
    offer = worker.take(lease_ms=60_000)
    assert offer.on_crash == "park"
    bench.skip(61)
    assert story(one)[3:] == ["StepInterrupted", "StepParked"]
    assert worker.report(offer, 1).code == "stale_attempt"
    one.accepted("w", c.ResolveStep("", offer.step, "retry"))
    worker.report(worker.take(2), 5)
    assert one.result("w") == b'"5"'


def test_a_crash_that_a_worker_reports_is_ambiguous_too(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", parking)
    offer = worker.take()
    crash = Failure("StepCrashed", "died")
    body = c.ReportStep(offer.run_id, offer.step, offer.attempt, offer.token, failure=crash, crashed=True)
    one.accepted("w", body)
    assert story(one)[3:] == ["StepInterrupted", "StepParked"]
    assert one.stops == []


def test_a_silent_step_times_out_and_its_details_reach_the_next_attempt(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", beating)
    first = worker.take()
    for at in (1, 2):
        bench.skip(6)
        assert worker.beat(first, {"at": at}).outcome == "accepted"
    assert failures(one) == []
    bench.skip(11)
    assert failures(one) == ["StepTimeout"]
    assert worker.beat(first, {"at": 3}).code == "stale_attempt"
    bench.skip(11)
    second = worker.take(2)
    assert second.details.data == b'{"at": 2}'
    worker.report(second, 2)
    assert one.result("w") == b'"2"'
    assert len(one.wait_stops()) == 1


def test_a_late_result_after_the_retry_is_a_rejection(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", bounded)
    first = worker.take()
    bench.skip(31)
    assert failures(one) == ["StepTimeout"]
    bench.skip(11)
    second = worker.take(2)
    assert worker.report(first, 1).code == "stale_attempt"
    assert worker.report(second, 2).outcome == "accepted"
    assert one.result("w") == b'"2"'


def test_no_time_is_left_for_another_attempt(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", bounded)
    worker.take()
    bench.skip(31)
    bench.skip(11)
    offer = worker.take(2)
    bench.skip(20)
    assert b"StepTimeout: schedule_to_close" in one.result("w")
    assert [body.timeout for body in one.bodies(e.StepFailed, "w")] == ["schedule_to_close"]
    assert one.wait_stops(2)[1].token == offer.token


def test_two_time_outs_at_once_are_one_failure(bench: Bench) -> None:
    """Both are due when the engine looks: the first ends the attempt, the second finds nothing."""
    one, worker = bench.rig, bench.worker
    one.start("w", beating)
    worker.take(lease_ms=9_000)
    bench.skip(15)
    assert failures(one) == ["StepLeaseExpired"]


def test_a_queue_that_nobody_serves_in_time(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", hurried)
    offer = worker.offer()
    bench.skip(31)
    assert b"StepTimeout: schedule_to_start" in one.result("w")
    assert worker.ask(offer).code == "stale_attempt"
    one.start("v", hurried)
    taken = worker.offer(workflow="v")
    worker.ask(taken)
    bench.skip(31)
    assert worker.report(taken, 1).outcome == "accepted"


@pytest.mark.parametrize("what", ["report", "beat"])
def test_what_fits_into_no_event_fails_the_step_once(bench: Bench, what: str) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", plain)
    offer = worker.take()
    reply = getattr(worker, what)(offer, "x" * 999_900)
    assert (reply.outcome, reply.code) == ("accepted", "StepFailed")
    assert b"LimitExceeded" in one.result("w")
    assert failures(one) == []
    assert len(one.stops) == (what == "beat"), "who only beats does not know that it is over"


# -- ends that the worker does not make ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "terminate", "complete", "fail"])
def test_a_worker_hears_of_an_end_from_outside_at_once(bench: Bench, how: str) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", plain)
    offer = worker.take()
    bodies: dict[str, c.TopicCommand] = {
        "cancel": c.CancelWorkflow(),
        "terminate": c.TerminateWorkflow(),
        "complete": c.ResolveStep("", offer.step, "complete", Payload(data=b"9")),
        "fail": c.ResolveStep("", offer.step, "fail", failure=NO),
    }
    one.accepted("w", bodies[how])
    [stop] = one.wait_stops()
    assert (stop.workflow_id, stop.token, stop.over) == ("w", offer.token, True)
    assert stop.why
    assert worker.report(offer, 1).code == "stale_attempt"


def test_in_mode_wait_the_worker_has_the_last_word(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", waiting)
    offer = worker.take()
    one.accepted("w", c.CancelWorkflow())
    [stop] = one.wait_stops()
    assert (stop.token, stop.over) == (offer.token, False)
    assert worker.beat(offer).outcome == "accepted"
    assert worker.report(offer, failure=Failure("CancelledError", "as asked", retryable=False)).outcome == "accepted"
    assert one.outcome("w").code == "cancelled"
    assert story(one)[-2:] == ["StepCancelled", "RunCancelled"]


def test_in_mode_wait_a_failure_is_not_tried_again(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", waiting)
    offer = worker.take()
    one.accepted("w", c.CancelWorkflow())
    worker.report(offer, failure=NO)
    assert one.outcome("w").code == "failed"
    assert one.bodies(e.StepAttemptFailed) == []


@pytest.mark.parametrize("backing_off", [True, False])
def test_in_mode_wait_nothing_is_waited_for_that_nobody_runs(bench: Bench, backing_off: bool) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", waiting)
    offer = worker.offer()
    if backing_off:
        worker.ask(offer)
        worker.report(offer, failure=NO)
    one.accepted("w", c.CancelWorkflow())
    assert one.outcome("w").code == "cancelled"
    assert story(one)[-3:] == ["StepCancelRequested", "StepCancelled", "RunCancelled"]
    assert worker.ask(offer).outcome == "rejected"
    assert one.stops == []


# -- from outside, by token ------------------------------------------------------------------------------------------


def test_a_process_that_is_no_worker_keeps_and_ends_a_step_by_its_token(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", beating)
    offer = worker.offer()
    assert worker.beat(offer, "seen").outcome == "accepted"
    assert worker.report(offer, 8).outcome == "accepted"
    assert one.result("w") == b'"8"'
    assert one.bodies(e.StepCompleted, "w")[0].actor is None


def test_a_heartbeat_by_hand_is_one_and_only_of_what_may_run(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", beating)
    offer = worker.take()

    def beat(details: bytes) -> str:
        return one.ask("w", c.ResolveStep("", offer.step, "heartbeat", Payload(data=details))).outcome

    for at in (b"1", b"2"):
        bench.skip(6)
        assert beat(at) == "accepted"
    bench.skip(11)
    assert failures(one) == ["StepTimeout"]
    assert beat(b"3") == "rejected"
    bench.skip(11)
    assert worker.offer(2).details.data == b"2"


def test_who_ended_a_step_by_hand_is_on_record(bench: Bench) -> None:
    one, worker = bench.rig, bench.worker
    one.start("w", plain)
    offer = worker.offer()
    one.accepted("w", c.ResolveStep("", offer.step, "complete", Payload(data=b"9")))
    assert one.result("w") == b'"9"'
    assert one.bodies(e.StepCompleted, "w")[0].actor.kind == "service"
    assert worker.ask(offer).code == "stale_attempt"
