"""Steps in step processes: outcomes, placing, order, cancellation, slots."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from orchestrator.core.retry import NOT_STARTED
from orchestrator.sdk.execution import CANCELLED, UNKNOWN, ExecutorOptions
from orchestrator.worker.executor import Executor, StepProcessFailed

from .conftest import MakeRig
from .rig import APPS, LONG_S, Rig, lines, until

pytestmark = pytest.mark.slow


def test_a_step_runs_in_another_process_and_its_value_comes_back(rig: Rig) -> None:
    assert rig.result(rig.start("echo", value="ä" * 100_000)) == "ä" * 100_000
    assert rig.result(rig.start("whoami")) != os.getpid()
    assert rig.executor.running() == frozenset()


def test_values_larger_than_any_buffer_pass_both_ways(rig: Rig) -> None:
    values = [str(number) * 5_000_000 for number in range(8)]
    calls = [rig.start("echo", value=value) for value in values]
    assert [rig.result(call) for call in calls] == values


def test_a_step_sees_who_it_is(rig: Rig) -> None:
    call = rig.start("about")
    assert rig.result(call) == f"flow run 1 flow/run/{call.step}"


def test_an_exception_is_a_failure_that_is_no_crash(rig: Rig) -> None:
    outcome = rig.outcome(rig.start("fail", text="no such order"))
    assert outcome.failure is not None
    assert (outcome.failure.type, outcome.failure.message) == ("ValueError", "no such order")
    assert not outcome.crashed


def test_a_declared_error_keeps_its_fields(rig: Rig) -> None:
    failure = rig.outcome(rig.start("decline", cents=7)).failure
    assert failure is not None
    assert failure.type == "Declined"
    assert b"7" in failure.details.data


def test_an_error_that_cannot_be_written_is_still_reported(rig: Rig) -> None:
    failure = rig.outcome(rig.start("mute")).failure
    assert failure is not None
    assert failure.type == "steps_app.Mute"
    assert "speechless" in failure.message


def test_a_plain_function_that_returns_a_coroutine_fails(rig: Rig) -> None:
    failure = rig.outcome(rig.start("half_async")).failure
    assert failure is not None
    assert (failure.type, failure.retryable) == ("TypeError", False)
    assert "async def" in failure.message


def test_sys_exit_in_a_step_ends_the_step_alone(rig: Rig) -> None:
    before = rig.result(rig.start("whoami"))
    outcome = rig.outcome(rig.start("leave"))
    assert outcome.failure is not None
    assert "SystemExit" in outcome.failure.type
    assert rig.result(rig.start("whoami")) == before


def test_a_step_that_the_application_lacks_fails(rig: Rig) -> None:
    outcome = rig.outcome(rig.start("nowhere"))
    assert outcome.failure is not None
    assert outcome.failure.type == UNKNOWN


def test_a_thousand_async_steps_share_one_process(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    calls = [rig.call("hold", file=str(gate)) for _ in range(1000)]
    assert rig.executor.start_many(calls) == []
    until(lambda: len(lines(gate)) == 1000, "1,000 steps at once")
    assert rig.executor.running() == {call.token for call in calls}
    (tmp_path / "gate.go").touch()
    assert len({rig.result(call) for call in calls}) == 1


def test_starts_of_one_thread_begin_in_order(rig: Rig) -> None:
    calls = [rig.call("echo", value=str(number)) for number in range(2000)]
    assert rig.executor.start_many(calls[:1000]) == []
    for call in calls[1000:]:
        assert rig.executor.start(call)
    assert [rig.result(call) for call in calls] == [str(number) for number in range(2000)]
    assert [report.body.token for report in rig.reports] == [call.token for call in calls]


def test_many_threads_may_start(rig: Rig) -> None:
    calls = [[rig.call("echo", value="x") for _ in range(200)] for _ in range(8)]
    threads = [threading.Thread(target=lambda mine=mine: [rig.executor.start(c) for c in mine]) for mine in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {rig.result(call) for mine in calls for call in mine} == {"x"}


def test_a_token_is_begun_once(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    call = rig.start("hold", file=str(gate))
    assert rig.executor.start(call)
    until(lambda: lines(gate), "the step to begin")
    (tmp_path / "gate.go").touch()
    rig.result(call)
    assert rig.result(rig.start("echo", value="after")) == "after"
    assert len(lines(gate)) == 1


def test_blocking_steps_have_a_process_each_and_wait_for_slots(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(slots=2)
    gate = tmp_path / "gate"
    calls = [rig.start("blocking_hold", file=str(gate)) for _ in range(3)]
    until(lambda: len(lines(gate)) == 2, "two blocking steps at once")
    assert len(set(lines(gate))) == 2
    assert [rig.executor.waiting(call.token) for call in calls].count(True) == 1
    assert rig.result(rig.start("echo", value="not held up")) == "not held up"
    assert len(lines(gate)) == 2
    (tmp_path / "gate.go").touch()
    for call in calls:
        rig.result(call)


def test_a_full_backlog_refuses_and_says_when_there_is_room(make_rig: MakeRig, tmp_path: Path) -> None:
    freed = threading.Event()
    rig = make_rig(slots=1, backlog=1, freed=freed.set)
    gate = tmp_path / "gate"
    rig.result(rig.start("blocking_whoami"))  # from here on the step is known to block
    first = rig.start("blocking_hold", file=str(gate))
    until(lambda: lines(gate), "the first to begin")
    second = rig.start("blocking_hold", file=str(gate))
    third = rig.call("blocking_hold", file=str(gate))
    assert rig.executor.waiting(second.token)
    assert not rig.executor.start(third)
    (tmp_path / "gate.go").touch()
    rig.result(first)
    assert freed.wait(LONG_S)
    until(lambda: rig.executor.start(third), "room")
    rig.result(second)
    rig.result(third)


@pytest.mark.parametrize("on_crash", ["fail", "park"])
def test_a_guarded_step_needs_a_slot_of_its_own(make_rig: MakeRig, tmp_path: Path, on_crash: str) -> None:
    rig = make_rig(guarded_slots=1)
    gate = tmp_path / "gate"
    shared = rig.result(rig.start("whoami"))
    call = rig.call("hold", on_crash, file=str(gate))
    rig.reserve(call.token)
    assert not rig.executor.slot_free()
    assert not rig.executor.start(rig.call("whoami", on_crash))
    assert rig.executor.start(call)
    until(lambda: lines(gate), "the guarded step")
    assert not rig.executor.slot_free()
    (tmp_path / "gate.go").touch()
    assert rig.result(call) != shared
    until(rig.executor.slot_free, "the slot to be free again")


def test_a_slot_given_back_is_free(make_rig: MakeRig) -> None:
    freed = threading.Event()
    rig = make_rig(guarded_slots=1, freed=freed.set)
    rig.reserve("one")
    freed.clear()
    assert not rig.executor.reserve("two")
    rig.executor.unreserve("one")
    assert freed.wait(LONG_S)
    assert rig.executor.reserve("two")


def test_after_its_time_a_step_is_not_begun(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "gate"
    call = rig.call("hold", "park", file=str(file))._replace(begin_before=1e-9)
    rig.reserve(call.token)
    assert rig.executor.start(call)
    failure = rig.outcome(call).failure
    assert failure is not None
    assert failure.type == NOT_STARTED
    assert not file.exists()


def test_cancel_reaches_an_async_step_without_heartbeats(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "gate"
    call = rig.start("hold", file=str(file))
    until(lambda: lines(file), "the step to begin")
    rig.executor.cancel(call.token)
    failure = rig.outcome(call).failure
    assert failure is not None
    assert (failure.type, failure.retryable) == (CANCELLED, False)


def test_a_blocking_step_can_ask_whether_it_is_cancelled(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "begun"
    call = rig.start("patient", file=str(file))
    until(lambda: lines(file), "the step to begin")
    rig.executor.cancel(call.token)
    assert rig.result(call) == "gave up"


def test_a_blocking_step_that_does_not_ask_loses_its_process(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(cancel_grace_s=0.2)
    file = tmp_path / "begun"
    call = rig.start("blocking_spin", file=str(file))
    until(lambda: lines(file), "the step to begin")
    rig.executor.cancel(call.token)
    outcome = rig.outcome(call)
    assert outcome.failure is not None
    assert outcome.failure.type == CANCELLED
    assert not outcome.crashed
    assert str(rig.result(rig.start("blocking_whoami"))) not in lines(file)


def test_a_waiting_step_is_cancelled_before_it_begins(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(slots=1)
    gate = tmp_path / "gate"
    first = rig.start("blocking_hold", file=str(gate))
    until(lambda: lines(gate), "the first to begin")
    second = rig.start("blocking_hold", file=str(gate))
    rig.executor.cancel(second.token)
    failure = rig.outcome(second).failure
    assert failure is not None
    assert failure.type == CANCELLED
    (tmp_path / "gate.go").touch()
    rig.result(first)
    assert len(lines(gate)) == 1


def test_the_last_heartbeat_of_a_failed_attempt_is_told_before_it(rig: Rig) -> None:
    call = rig.start("beats", count=50, heartbeat_ms=60_000)
    assert rig.outcome(call).failure is not None
    assert rig.beats(call) == [0, 49]


def test_what_waits_for_a_slot_can_be_taken_back(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(slots=1)
    first = rig.start("blocking_hold", file=str(tmp_path / "first"))
    until(lambda: lines(tmp_path / "first"), "the step to begin")
    second = rig.start("blocking_hold", file=str(tmp_path / "second"))
    assert rig.executor.waiting(second.token)
    assert [rig.executor.withdraw(token) for token in (first.token, second.token, second.token, "?")] == [
        False,
        True,
        False,
        False,
    ]
    assert rig.executor.running() == {first.token}
    (tmp_path / "first.go").touch()
    assert rig.result(first)
    assert rig.executor.start(second), "it may come again"
    until(lambda: lines(tmp_path / "second"), "the step to begin")
    (tmp_path / "second.go").touch()
    assert rig.result(second)
    assert len(lines(tmp_path / "second")) == 1


def test_stop_waits_for_what_runs_and_takes_nothing_new(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig()
    gate = tmp_path / "gate"
    call = rig.start("hold", file=str(gate))
    until(lambda: lines(gate), "the step to begin")
    cut: list[object] = []
    stopping = threading.Thread(target=lambda: cut.append(rig.executor.stop(LONG_S)))
    stopping.start()
    until(lambda: not rig.executor.slot_free(), "the end to begin")
    until(lambda: not rig.executor.start(rig.call("whoami")), "new steps to be refused")
    assert cut == []
    (tmp_path / "gate.go").touch()
    stopping.join()
    assert rig.result(call)
    assert cut == [frozenset()]


def test_stop_names_what_it_cuts_off(rig: Rig, tmp_path: Path) -> None:
    call = rig.start("hold", file=str(tmp_path / "endless"))
    until(lambda: lines(tmp_path / "endless"), "the step to begin")
    assert rig.executor.stop(0.1) == {call.token}
    assert rig.outcomes(call) == []


@pytest.mark.parametrize("text", ["raise RuntimeError('a bad deploy')", "import sys; sys.exit(2)", "app2 = 1"])
def test_an_application_that_cannot_be_loaded_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken_app.py").write_text(text, encoding="utf-8")
    executor = Executor(f"{tmp_path / 'broken_app.py'}:app", ExecutorOptions(), lambda _: None)
    try:
        with pytest.raises(StepProcessFailed, match="broken_app"):
            executor.wait_ready(LONG_S)
    finally:
        executor.stop(0)


def test_a_module_is_found_by_the_given_path() -> None:
    executor = Executor("steps_app:app", ExecutorOptions(path=(str(APPS),)), lambda _: None)
    try:
        executor.wait_ready(LONG_S)
    finally:
        executor.stop(0)
