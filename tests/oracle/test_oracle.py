"""A clean log gives no anomaly; every anomaly put into a log by hand is named."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from . import verdict as v
from .avro import event_hash
from .logs import (
    NOW,
    NULL,
    SECOND,
    EventLog,
    cause,
    clean,
    clean_commands,
    command,
    completed,
    failure,
    payload,
    reply,
    scheduled,
    signal_command,
    start_command,
    started,
)
from .oracle import Evidence, Expected, LoadModel, Receipt, SentSignal, StatePosition, check
from .raw import RawRecord

MODEL = LoadModel({"w": Expected(42, 3, "completed", (SentSignal("g1", "a"), SentSignal("g2", "a")))}, {"s1"})


def judge(log: EventLog, model: LoadModel | None = None, **evidence: object) -> v.Verdict:
    """The verdict on one partition."""
    return check({0: log.records}, None, model, Evidence(**evidence))  # type: ignore[arg-type]


def begun() -> EventLog:
    """A claim and a run with one scheduled step; the batch is open."""
    log = EventLog()
    log.claim()
    log.position = 1
    log.event("RunStarted", started())
    log.event("StepScheduled", scheduled(0))
    return log


def test_a_clean_log_has_no_anomaly() -> None:
    log = clean()
    end = StatePosition(log.records[-1].offset + 1, log.chain)
    aborted = log.records[-1]._replace(offset=10_000)
    found = check(
        {0: log.records},
        {0: [*log.records, aborted]},
        MODEL,
        Evidence(
            commands={0: clean_commands()},
            replies=[reply("s1"), reply("s1")],
            receipts=[Receipt("w/r/0%3A1", NOW + SECOND)],
            state={0: end},
        ),
    )
    assert not found.anomalies, found.text()
    assert found.totals["void_events"] == 1
    assert found.totals["step_results"] == 3
    assert found.totals["aborted_records"] == 1
    assert found.totals["completed"] == found.totals["runs"] == 1


def two_results(log: EventLog) -> None:
    log.event("StepCompleted", completed(0))
    log.event("StepCompleted", completed(0))


def event_after_the_end(log: EventLog) -> None:
    log.event("RunCompleted", {"turn": 1, "result": NULL})
    log.event("SignalReceived", {"name": "go", "payload": NULL})


def command_with_two_outcomes(log: EventLog) -> None:
    log.record(
        "CommandRejected", {"command": "StartWorkflow", "code": "c", "message": "m", "cause": cause("s1", 0)}, "w"
    )


def timer_early(log: EventLog) -> None:
    log.event("TimerSet", {"turn": 1, "path": "0", "n": 1, "due_at_ms": log.now + 1, "call_site": "f"})
    log.event("TimerFired", {"timer": "0:1", "due_at_ms": log.now + 1})


def timer_twice(log: EventLog) -> None:
    log.event("TimerSet", {"turn": 1, "path": "0", "n": 1, "due_at_ms": log.now, "call_site": "f"})
    log.event("TimerFired", {"timer": "0:1", "due_at_ms": log.now})
    log.event("TimerFired", {"timer": "0:1", "due_at_ms": log.now})


def timer_after_cancel(log: EventLog) -> None:
    log.event("TimerSet", {"turn": 1, "path": "0", "n": 1, "due_at_ms": log.now, "call_site": "f"})
    log.event("TimerCancelled", {"turn": 1, "timer": "0:1"})
    log.event("TimerFired", {"timer": "0:1", "due_at_ms": log.now})


def retry_early(log: EventLog) -> None:
    failed = {"step": "0:0", "attempt": 1, "failure": failure("ValueError"), "retry_at_ms": log.now + 1}
    log.event("StepAttemptFailed", failed)
    log.event("StepRetried", {"step": "0:0", "attempt": 2})


def result_of_a_lost_lease(log: EventLog) -> None:
    failed = {"step": "0:0", "attempt": 1, "failure": failure("StepLeaseExpired"), "retry_at_ms": log.now}
    log.event("StepAttemptFailed", failed)
    log.event("StepRetried", {"step": "0:0", "attempt": 2})
    log.event("StepCompleted", completed(0, attempt=1))


def result_of_a_failed_attempt(log: EventLog) -> None:
    failed = {"step": "0:0", "attempt": 1, "failure": failure("StepLeaseExpired"), "retry_at_ms": log.now}
    log.event("StepAttemptFailed", failed)
    log.event("StepCompleted", completed(0, attempt=1))


def attempt_that_fails_twice(log: EventLog) -> None:
    failed = {"step": "0:0", "attempt": 1, "failure": failure("ConnectionError"), "retry_at_ms": log.now}
    log.event("StepAttemptFailed", failed)
    log.event("StepAttemptFailed", {**failed, "failure": failure("StepTimeout")})


def seq_gap(log: EventLog) -> None:
    log.event("StepCompleted", completed(0), seq=4)


def seq_again(log: EventLog) -> None:
    log.event("StepCompleted", completed(0), seq=2)


def chain_broken(log: EventLog) -> None:
    log.event("StepCompleted", completed(0), prev_hash=b"x" * 32)


def result_from_nowhere(log: EventLog) -> None:
    log.event("StepCompleted", completed(7))


def signals_swapped(log: EventLog) -> None:
    log.position = 3
    log.event("SignalReceived", {"name": "go", "payload": NULL, "cause": cause("g2", 2)})
    log.event("SignalReceived", {"name": "go", "payload": NULL, "cause": cause("g1", 1)})


def reflects_input_above_the_position(log: EventLog) -> None:
    log.event("SignalReceived", {"name": "go", "payload": NULL, "cause": cause("g1", 1)})


def index_missing(log: EventLog) -> None:
    log.event("StepCompleted", completed(0), batch_index=5)


def clock_ahead_of_the_footer(log: EventLog) -> None:
    log.event("StepCompleted", completed(0), recorded_at_ms=log.now + 1)


@pytest.mark.parametrize(
    ("inject", "name"),
    [
        (two_results, v.DUPLICATE),
        (event_after_the_end, v.DUPLICATE),
        (command_with_two_outcomes, v.DUPLICATE),
        (timer_early, v.EARLY_TIMER),
        (timer_twice, v.DUPLICATE),
        (timer_after_cancel, v.DUPLICATE),
        (retry_early, v.EARLY_TIMER),
        (result_of_a_lost_lease, v.ABORTED_READ),
        (result_of_a_failed_attempt, v.ABORTED_READ),
        (attempt_that_fails_twice, v.DUPLICATE),
        (seq_gap, v.LOST_WRITE),
        (seq_again, v.DUPLICATE),
        (chain_broken, v.CORRUPTION),
        (result_from_nowhere, v.PHANTOM),
        (signals_swapped, v.NONMONOTONIC),
        (reflects_input_above_the_position, v.OFFSETS),
        (index_missing, v.TORN),
        (clock_ahead_of_the_footer, v.NONMONOTONIC),
    ],
)
def test_an_anomaly_inside_a_batch_is_named(inject: Callable[[EventLog], None], name: str) -> None:
    log = begun()
    inject(log)
    log.footer()
    found = judge(log)
    assert found.names == {name}, found.text()


def without(log: EventLog, index: int) -> EventLog:
    del log.records[index]
    return log


def test_a_removed_event_tears_its_batch() -> None:
    assert v.TORN in judge(without(clean(), 1)).names


def test_a_removed_footer_tears_its_batch() -> None:
    log = clean()
    first_footer = next(i for i, r in enumerate(log.records) if r.key == b"\x00footer")
    assert v.TORN in judge(without(log, first_footer)).names


def test_a_removed_batch_is_a_lost_write() -> None:
    log = clean()
    footers = [i for i, r in enumerate(log.records) if r.key == b"\x00footer"]
    del log.records[footers[0] + 1 : footers[1] + 1]
    assert v.LOST_WRITE in judge(log).names


def test_half_a_batch_at_the_end_is_torn_unless_the_engine_still_works() -> None:
    log = begun()
    assert judge(log).names == {v.TORN}
    assert not judge(log, quiescent=False).anomalies


def test_changed_bytes_are_corruption() -> None:
    log = clean()
    raw = log.records[1]
    log.records[1] = raw._replace(value=raw.value.replace(b"s1", b"s9"))
    assert v.CORRUPTION in judge(log).names


def test_garbage_is_corruption() -> None:
    log = clean()
    log.records.append(RawRecord("app.events", 0, 10_000, NOW, b"w", b"garbage"))
    assert judge(log).names == {v.CORRUPTION}


def test_a_fenced_owner_s_batch_is_an_aborted_read() -> None:
    log = begun()
    log.footer()
    log.claim()
    log.claim_no = 1
    log.event("StepCompleted", completed(0))
    log.footer()
    assert judge(log).names == {v.ABORTED_READ}


def test_a_batch_after_an_equal_claim_is_an_aborted_read() -> None:
    log = EventLog()
    log.claim(1, "a")
    log.claim(1, "b")
    log.position = 1
    log.event("RunStarted", started())
    log.footer()
    assert judge(log).names == {v.ABORTED_READ}


def test_a_lost_claim_that_claims_again_is_no_anomaly() -> None:
    log = EventLog()
    log.claim(1, "a")
    log.claim(1, "b")
    log.claim(2, "c")
    log.position = 1
    log.event("RunStarted", started())
    log.footer()
    assert not judge(log).anomalies


def test_a_nonce_used_twice() -> None:
    log = EventLog()
    log.claim(1, "a")
    log.claim(2, "a")
    assert judge(log).names == {v.DUPLICATE}


def test_a_batch_number_used_twice() -> None:
    log = begun()
    log.footer()
    log.batch_no -= 1
    log.footer()
    assert judge(log).names == {v.DUPLICATE}


def test_the_position_and_the_clock_never_go_back() -> None:
    log = begun()
    log.footer()
    log.position, log.now = 0, log.now - 1
    log.footer()
    assert judge(log).names == {v.OFFSETS, v.NONMONOTONIC}


def test_a_log_whose_start_was_deleted_is_read_from_its_first_footer() -> None:
    log = EventLog()
    log.offset = 500
    log.claim_no, log.batch_no = 4, 17
    log.event("StepCompleted", completed(0))
    log.footer()
    log.claim(5)
    log.footer()
    assert not judge(log, log_start={0: 500}).anomalies
    assert judge(log).anomalies


def test_a_log_that_begins_with_aborted_records_is_read_whole() -> None:
    log = EventLog()
    log.offset = 2
    log.claim()
    log.footer()
    log.event("StepCompleted", completed(0))
    log.footer()
    assert judge(log).names == {v.PHANTOM}


def test_a_command_below_the_position_without_outcome() -> None:
    found = judge(clean(), commands={0: [*clean_commands()[:2], signal_command("g9", 2)]})
    assert found.names == {v.OFFSETS, v.LOST_WRITE}


def test_a_duplicate_or_a_query_below_the_position_needs_no_outcome() -> None:
    log = begun()
    log.position = 3
    log.footer()
    query = command("QueryWorkflow", "q", {"kind": "describe"}, 2)
    found = judge(log, commands={0: [start_command(), start_command("s1", 1), query]})
    assert not found.anomalies, found.text()


def test_an_acknowledged_command_that_was_never_taken_is_unseen() -> None:
    commands = {0: [*clean_commands(), signal_command("g3", 3)]}
    found = judge(clean(), LoadModel(acknowledged={"g3"}), commands=commands)
    assert found.names == {v.UNSEEN}


def test_an_acknowledged_command_without_event_is_lost() -> None:
    assert judge(clean(), LoadModel(acknowledged={"g7"})).names == {v.LOST_WRITE}


def test_a_reply_without_event_is_premature() -> None:
    assert judge(clean(), replies=[reply("s2")]).names == {v.PREMATURE_REPLY}


def test_two_different_answers() -> None:
    assert judge(clean(), replies=[reply("s1"), reply("s1", run="other")]).names == {v.DUPLICATE}


@pytest.mark.parametrize("receipt", [Receipt("w/r/0%3A9", NOW), Receipt("w/r/0%3A1", NOW), Receipt("w/other/0%3A1")])
def test_an_effect_before_its_schedule_is_premature(receipt: Receipt) -> None:
    assert judge(clean(), receipts=[receipt]).names == {v.PREMATURE_EFFECT}


def test_an_unsafe_step_s_effect_needs_its_start() -> None:
    log = EventLog()
    log.claim()
    log.position = 1
    log.event("RunStarted", started())
    log.event("StepScheduled", scheduled(0, on_crash="park"))
    log.footer()
    assert judge(log, receipts=[Receipt("w/r/0%3A0")]).names == {v.PREMATURE_EFFECT}
    begins = {"step": "0:0", "attempt": 1, "token": "t", "instance": "i", "start_within_ms": 1}
    log.event("StepStarted", begins)
    log.footer()
    assert not judge(log, receipts=[Receipt("w/r/0%3A0")]).anomalies


def test_state_ahead_of_the_log() -> None:
    log = clean()
    assert judge(log, state={0: StatePosition(log.offset + 3, log.chain)}).names == {v.STATE_AHEAD}
    other = event_hash(b"another", b"footer")
    assert judge(log, state={0: StatePosition(log.records[-1].offset + 1, other)}).names == {v.STATE_AHEAD}


def test_a_time_out_that_wins_over_a_queued_report() -> None:
    log = begun()
    lease = {"step": "0:0", "attempt": 1, "token": "t", "worker": "w", "lease_ms": 10 * SECOND}
    log.event("StepLeased", lease)
    log.now += 10 * SECOND
    failed = {"step": "0:0", "attempt": 1, "failure": failure("StepLeaseExpired"), "retry_at_ms": log.now}
    log.event("StepAttemptFailed", failed)
    log.footer()
    body = {"run_id": "r", "step": "0:0", "attempt": 1, "token": "t"}
    waiting = command("ReportStep", "p", body, 1, NOW + SECOND)
    late = command("ReportStep", "p", body, 1, NOW + 11 * SECOND)
    assert judge(log, commands={0: [start_command(), waiting]}).names == {v.EARLY_TIMER}
    assert not judge(log, commands={0: [start_command(), late]}).anomalies


def test_readers_that_disagree() -> None:
    log = clean()
    assert check({0: log.records}, {0: log.records[:-1]}).names == {v.UNSEEN}


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        ({"w": Expected(43)}, v.WRONG_RESULT),
        ({"w": Expected(42, 4)}, v.LOST_WRITE),
        ({"w": Expected(42, 2)}, v.DUPLICATE),
        ({"w": Expected(status="failed")}, v.WRONG_RESULT),
        ({"w": Expected(), "x": Expected()}, v.UNSEEN),
        ({"w": Expected(signals=(SentSignal("g3"),))}, v.LOST_WRITE),
        ({"w": Expected(signals=(SentSignal("g2", "a"), SentSignal("g1", "a")))}, v.NONMONOTONIC),
    ],
)
def test_totals_differ_from_the_model_s(expected: dict[str, Expected], name: str) -> None:
    assert name in judge(clean(), LoadModel(expected)).names


def test_a_run_that_never_ended_is_lost() -> None:
    log = begun()
    log.footer()
    assert judge(log, LoadModel({"w": Expected(1)})).names == {v.LOST_WRITE}


def test_a_signal_received_by_two_runs() -> None:
    log = clean()
    body = started("s2", 3)
    log.position = 4
    log.event("RunStarted", body, run="r2")
    log.event("SignalReceived", {"name": "go", "payload": payload(b"1"), "cause": cause("g1", 1)}, run="r2")
    log.footer()
    model = LoadModel({"w": Expected(signals=(SentSignal("g1"),), status="completed")})
    assert v.DUPLICATE in judge(log, model).names


def test_the_oracle_imports_nothing_of_the_engine() -> None:
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            assert not [name for name in names if name.split(".")[0] == "orchestrator"], path.name
