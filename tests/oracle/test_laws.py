"""Every law of docs/invariants.md, with every name that its breach can have: each by a log that was bent to show it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from . import verdict as v
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
    payload,
    reply,
    scheduled,
    signal_command,
    start_command,
    started,
)
from .oracle import Bounds, Dumps, End, Evidence, Expected, LoadModel, Receipt, SentSignal, check
from .test_oracle import (
    begun,
    chain_broken,
    event_after_the_end,
    judge,
    reflects_input_above_the_position,
    result_from_nowhere,
    result_of_a_lost_lease,
    seq_again,
    seq_gap,
    signals_swapped,
    timer_early,
    timer_twice,
    two_results,
)

PAGE = Path(__file__).parents[2] / "docs/invariants.md"


def in_a_batch(inject: Callable[[EventLog], None]) -> v.Verdict:
    """The verdict on a run into whose second batch something was put."""
    log = begun()
    inject(log)
    log.footer()
    return judge(log)


def attempt_skipped(log: EventLog) -> None:
    log.event("StepRetried", {"step": "0:0", "attempt": 3})


def timer_from_nowhere(log: EventLog) -> None:
    log.event("TimerFired", {"timer": "0:9", "due_at_ms": log.now})


def third_attempt(log: EventLog) -> None:
    log.event("TurnAttempted", {"attempt": 3})


def with_signals(*received: str) -> v.Verdict:
    """One signal was acknowledged; these were received."""
    log = begun()
    log.position = 3
    for offset, command_id in enumerate(received, 1):
        log.event("SignalReceived", {"name": "go", "payload": NULL, "cause": cause(command_id, offset)})
    log.footer()
    return judge(log, LoadModel({"w": Expected(status="running", signals=(SentSignal("g1"),))}))


def other_batch_number() -> v.Verdict:
    log = begun()
    log.batch_no += 1
    log.event("StepCompleted", completed(0))
    log.footer()
    return judge(log)


def clock_back() -> v.Verdict:
    log = begun()
    log.footer()
    log.now -= 1
    log.footer()
    return judge(log)


def fenced() -> v.Verdict:
    log = begun()
    log.footer()
    log.claim()
    log.claim_no = 1
    log.event("StepCompleted", completed(0))
    log.footer()
    return judge(log)


def readers() -> v.Verdict:
    log = clean()
    return check({0: log.records}, {0: log.records[:-1]})


def never_taken() -> v.Verdict:
    return judge(clean(), LoadModel(acknowledged={"g3"}), commands={0: [*clean_commands(), signal_command("g3", 3)]})


# -- state (I3), ends (I7) -------------------------------------------------------------------------------------------


def rows_of(log: EventLog) -> dict[str, list[tuple[bytes, bytes]]]:
    """A state that agrees with the log: the history, and one row beside it."""
    events = [raw for raw in log.records if raw.key == b"w"]
    return {"history": [(b"%d" % raw.offset, raw.value) for raw in events], "runs": [(b"w", b"row")]}


def compared(**bent: list[tuple[bytes, bytes]]) -> v.Verdict:
    """The live state has these families otherwise than the fold has them."""
    log = begun()
    log.footer()
    rows = rows_of(log)
    return judge(log, dumps={0: Dumps(rows | bent, rows)})


def test_states_that_agree_are_clean() -> None:
    found = compared()
    assert not found.anomalies, found.text()
    assert found.totals["rows_compared"] == 3


@pytest.mark.parametrize("runs", [[], [(b"w", b"other")], [(b"w", b"row"), (b"x", b"row")]])
def test_a_row_that_is_missing_different_or_too_many_is_named(runs: list[tuple[bytes, bytes]]) -> None:
    found = compared(runs=runs)
    assert found.names == {v.DIVERGED}
    assert "runs b'" in found.text()


def history_ahead() -> v.Verdict:
    """Both states agree on an event that the log does not have: whoever folds it, it is not there."""
    log = begun()
    log.footer()
    rows = rows_of(log)
    rows["history"].append((b"9", b"an event of nobody's"))
    return judge(log, dumps={0: Dumps(rows, rows)})


def still_open(quiescent: bool = True) -> v.Verdict:
    log = clean()
    return judge(log, ends={0: End(log.offset, log.offset + 2)}, quiescent=quiescent)


def test_an_open_transaction_is_none_while_engines_work() -> None:
    assert not still_open(quiescent=False).anomalies
    log = clean()
    assert not judge(log, ends={0: End(log.offset, log.offset)}).anomalies


# -- time (I6, I11) --------------------------------------------------------------------------------------------------


def asleep(others: int, every_ms: int, claims: int = 0, bounds: Bounds | None = None) -> v.Verdict:
    """A timer is due; batches without it follow, with take-overs among them, and then it fires."""
    log = begun()
    log.event("TimerSet", {"turn": 1, "path": "0", "n": 1, "due_at_ms": log.now, "call_site": "f"})
    log.footer()
    for number in range(others):
        log.now += every_ms
        if claims and not number % (others // claims):
            log.claim()
        log.event("SignalReceived", {"name": "go", "payload": NULL})
        log.footer()
    log.event("TimerFired", {"timer": "0:1", "due_at_ms": NOW})
    log.footer()
    return judge(log, bounds=bounds)


def test_a_timer_after_a_stop_of_the_machine_is_late_only_where_nothing_else_ran() -> None:
    assert not asleep(1, 60 * SECOND).anomalies
    assert asleep(1, 3 * SECOND, bounds=Bounds()).names == {v.LATE_TIMER}
    assert not asleep(1, 1 * SECOND, bounds=Bounds()).anomalies


def test_a_timer_is_not_late_for_what_happened_before_its_owner_came() -> None:
    assert not asleep(30, SECOND, claims=30).anomalies
    assert not asleep(1, 60 * SECOND, claims=1, bounds=Bounds()).anomalies


def test_other_timers_and_careful_turns_pass_nobody_over() -> None:
    log = begun()
    log.event("TimerSet", {"turn": 1, "path": "0", "n": 1, "due_at_ms": log.now, "call_site": "f"})
    log.footer()
    for number in range(30):
        log.now += SECOND
        if number % 2:
            log.event("TurnAttempted", {"attempt": 1})
        else:
            log.event("TimerSet", {"turn": 1, "path": "1", "n": number, "due_at_ms": log.now, "call_site": "f"})
            log.event("TimerFired", {"timer": f"1:{number}", "due_at_ms": log.now})
        log.footer()
    assert not judge(log).anomalies


def poisoned(waits_ms: int, sent_apart_ms: int = 10, claim: bool = False) -> v.Verdict:
    """A signal, a poisoned record, another signal: the second one waits."""
    log = begun()
    log.position = 3
    log.event("SignalReceived", {"name": "go", "payload": NULL, "cause": cause("g1", 1)})
    letter = {"topic": "app.commands", "partition": 0, "offset": 2, "reason": "r", "key": b"k"}
    log.record("DeadLettered", letter | {"value": payload(b"1"), "cause": cause("", 2)})
    log.footer()
    log.now += waits_ms
    if claim:
        log.claim()
    log.position = 4
    log.event("SignalReceived", {"name": "go", "payload": NULL, "cause": cause("g2", 3)})
    log.footer()
    # The commands' clock may be anywhere: only how far it went on counts.
    elsewhere = NOW - 90 * SECOND
    sent = [
        command("SignalWorkflow", "g1", {"name": "go"}, 1, elsewhere),
        command("SignalWorkflow", "", {"name": "go"}, 2, elsewhere)._replace(value=b"poison"),
        command("SignalWorkflow", "g2", {"name": "go"}, 3, elsewhere + sent_apart_ms),
    ]
    return judge(log, commands={0: [start_command(), *sent]}, bounds=Bounds())


def test_what_came_later_and_what_a_take_over_delayed_did_not_wait_for_the_poison() -> None:
    for found in (poisoned(900), poisoned(60 * SECOND, 60 * SECOND), poisoned(60 * SECOND, claim=True)):
        assert not found.anomalies, found.text()


# -- effects (I12) ---------------------------------------------------------------------------------------------------


def effects(receipts: int, claims: int = 1, **options: object) -> v.Verdict:
    """One step with so many receipts; its partition was claimed so often."""
    log = EventLog()
    log.claim()
    log.position = 1
    log.event("RunStarted", started())
    log.event("StepScheduled", scheduled(0, **options))
    if options:
        log.event("StepStarted", {"step": "0:0", "attempt": 1, "token": "t", "instance": "i", "start_within_ms": 1})
    log.footer()
    for _ in range(claims - 1):
        log.claim()
    log.event("StepCompleted", completed(0))
    log.footer()
    return judge(log, receipts=[Receipt("w/r/0%3A0")] * receipts, effects=("step",))


def test_an_effect_may_be_repeated_once_for_each_take_over() -> None:
    assert not effects(1).anomalies
    assert effects(2).names == {v.REPEATED_EFFECT}
    assert not effects(3, claims=3).anomalies
    assert effects(4, claims=3).names == {v.REPEATED_EFFECT}


def test_an_effect_that_nobody_may_repeat_is_not_excused_by_take_overs() -> None:
    assert not effects(1, claims=3, on_crash="fail").anomalies
    assert effects(2, claims=3, on_crash="fail").names == {v.REPEATED_EFFECT}


def test_a_result_without_an_effect_is_named_where_every_receipt_is_there() -> None:
    assert effects(0).names == {v.LOST_EFFECT}
    assert effects(0).lost == effects(2).duplicated == 1


BROKEN: dict[tuple[str, str], Callable[[], v.Verdict]] = {
    ("I1", v.DUPLICATE): lambda: in_a_batch(two_results),
    ("I1", v.ABORTED_READ): lambda: in_a_batch(result_of_a_lost_lease),
    ("I1", v.PHANTOM): lambda: in_a_batch(result_from_nowhere),
    ("I1", v.LOST_WRITE): lambda: in_a_batch(attempt_skipped),
    ("I2", v.DUPLICATE): lambda: in_a_batch(event_after_the_end),
    ("I2", v.LOST_WRITE): lambda: judge(clean(), LoadModel(acknowledged={"g7"})),
    ("I2", v.UNSEEN): never_taken,
    ("I2", v.PREMATURE_REPLY): lambda: judge(clean(), replies=[reply("s2")]),
    ("I3", v.DIVERGED): lambda: compared(runs=[]),
    ("I3", v.STATE_AHEAD): history_ahead,
    ("I4", v.LOST_WRITE): lambda: in_a_batch(seq_gap),
    ("I4", v.DUPLICATE): lambda: in_a_batch(seq_again),
    ("I4", v.CORRUPTION): lambda: in_a_batch(chain_broken),
    ("I4", v.TORN): other_batch_number,
    ("I4", v.NONMONOTONIC): clock_back,
    ("I4", v.UNSEEN): readers,
    ("I5", v.LOST_WRITE): with_signals,
    ("I5", v.DUPLICATE): lambda: with_signals("g1", "g1"),
    ("I5", v.NONMONOTONIC): lambda: in_a_batch(signals_swapped),
    ("I6", v.DUPLICATE): lambda: in_a_batch(timer_twice),
    ("I6", v.EARLY_TIMER): lambda: in_a_batch(timer_early),
    ("I6", v.LATE_TIMER): lambda: asleep(30, SECOND),
    ("I6", v.PHANTOM): lambda: in_a_batch(timer_from_nowhere),
    ("I7", v.HANGING): still_open,
    ("I8", v.OFFSETS): lambda: in_a_batch(reflects_input_above_the_position),
    ("I9", v.ABORTED_READ): fenced,
    ("I10", v.LOST_WRITE): lambda: judge(clean(), LoadModel({"w": Expected(42, 4)})),
    ("I10", v.DUPLICATE): lambda: judge(clean(), LoadModel({"w": Expected(42, 2)})),
    ("I10", v.WRONG_RESULT): lambda: judge(clean(), LoadModel({"w": Expected(43)})),
    ("I10", v.UNSEEN): lambda: judge(clean(), LoadModel({"w": Expected(), "x": Expected()})),
    ("I11", v.DELAYED): lambda: poisoned(2 * SECOND),
    ("I11", v.NOT_PARKED): lambda: in_a_batch(third_attempt),
    ("I12", v.PREMATURE_EFFECT): lambda: judge(clean(), receipts=[Receipt("w/r/0%3A9", NOW)]),
    ("I12", v.REPEATED_EFFECT): lambda: effects(2),
    ("I12", v.LOST_EFFECT): lambda: effects(0),
}


def test_every_law_and_every_name_is_broken_here_by_a_log() -> None:
    assert BROKEN.keys() == {(law, name) for law, names in v.LAWS.items() for name in names}
    constants = {value for name, value in vars(v).items() if name.isupper() and isinstance(value, str)}
    assert constants == {name for names in v.LAWS.values() for name in names}


@pytest.mark.parametrize(("law", "name"), BROKEN, ids=str)
def test_what_breaks_a_law_is_called_by_its_name(law: str, name: str) -> None:
    found = BROKEN[law, name]()
    assert (law, name) in {(anomaly.law, anomaly.name) for anomaly in found.anomalies}, found.text()


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(r"^\| (I\d+) \|.*\| ([^|]*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {law: tuple(names.split(", ")) for law, names in rows} == v.LAWS


def test_evidence_is_all_optional() -> None:
    assert not check({0: clean().records}, evidence=Evidence()).anomalies
