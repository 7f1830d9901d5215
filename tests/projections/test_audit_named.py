"""What was done to a log is named by its offset, whichever of the two readers looks: the fast one or the one that
decodes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from orchestrator.codec.records import Codec
from orchestrator.core.values import BatchId
from orchestrator.log.ports import Wire
from orchestrator.projections.audit import Audit, AuditOptions, Finding, verify
from orchestrator.projections.audit_chain import ChainReader
from orchestrator.projections.audit_clock import Clocks
from orchestrator.projections.audit_report import verdict
from orchestrator.projections.audit_witness import Witness
from tests.oracle.avro import event_hash
from tests.oracle.logs import NULL, SECOND, EventLog, cause, clean, completed, scheduled, started
from tests.oracle.raw import RawRecord

pytestmark = pytest.mark.slow

CODEC = Codec()
LEVELS = pytest.mark.parametrize("level", ["chain", "full"])
HOUR_MS = 3_600_000
FOOTER = b"\x00footer"


def audit(records: Sequence[RawRecord], level: Any, *witnesses: Witness, max_skew_ms: int = 0) -> Audit:
    """The verdict on one partition."""
    options = AuditOptions(level=level, witnesses={0: witnesses}, max_skew_ms=max_skew_ms)
    return verify({0: [[Wire(*record) for record in records]]}, CODEC, options)


def only(found: Audit) -> Finding:
    (finding,) = found.findings
    return finding


def head(log: EventLog) -> Witness:
    """A signed witness of the log's end."""
    event = CODEC.decode_event(log.records[-1].key, log.records[-1].value).event
    batch = BatchId(event.claim_no, event.batch_no)
    return Witness(batch, log.chain, "the anchor", 1_700_000_100_000, log.records[-1].offset)


def footer_of(records: Sequence[RawRecord], index: int) -> int:
    """The offset of the footer that covers a record."""
    return next(record.offset for record in records[index:] if record.key == FOOTER)


def runs(count: int = 4, steps: int = 5, without: str = "", log: EventLog | None = None) -> EventLog:
    """Several runs side by side, in batches of two runs' events; `without` one of them everything is recomputed."""
    log = log or EventLog()
    log.claim()
    names = [f"r{number}" for number in range(count)]
    for number, run in enumerate(names):
        log.position = number + 1
        if run != without:
            log.event("RunStarted", started(f"s-{run}", number), run, run)
            log.event("StepScheduled", scheduled(0), run, run)
            log.footer()
    for step in range(steps):
        log.now += SECOND
        for first in range(0, count, 2):
            for run in names[first : first + 2]:
                if run == without:
                    continue
                log.event("StepCompleted", completed(step), run, run)
                if step + 1 < steps:
                    log.event("StepScheduled", scheduled(step + 1), run, run)
                else:
                    log.event("RunCompleted", {"turn": step + 2, "result": NULL}, run, run)
            log.footer()
    return log


@pytest.mark.contract("audit-verify")
@LEVELS
def test_a_changed_byte(level: str) -> None:
    """Of an event: its batch's footer, whose root is another, with the batch's offsets. Of a footer: its own.

    The last footer is covered by a witness alone.
    """
    log = runs()
    for index, record in enumerate(log.records[1:], 1):
        changed = [*log.records]
        changed[index] = record._replace(value=record.value[:-1] + bytes([record.value[-1] ^ 1]))
        finding = only(audit(changed, level, head(log)))
        if record.key != FOOTER and finding.kind == "gap":
            assert finding.offset == footer_of(log.records, index)
            first, last = finding.detail.split("(the batch is offsets ")[1].split(")")[0].split(" to ")
            assert int(first) <= record.offset <= int(last)
        else:
            # A footer's change shows in itself, or in the next one, which does not follow it.
            later = footer_of(log.records, index + 1) if index + 1 < len(log.records) else record.offset
            assert finding.offset in (record.offset, later)


@pytest.mark.contract("audit-verify")
@LEVELS
def test_a_removed_record(level: str) -> None:
    """The next record stands where another belongs."""
    log = runs()
    for index in range(len(log.records) - 1):
        cut = [*log.records[:index], *log.records[index + 1 :]]
        finding = only(audit(cut, level))
        assert finding.kind == "gap"
        assert finding.offset == log.records[index + 1].offset


@pytest.mark.contract("audit-verify")
@LEVELS
def test_reordered_records(level: str) -> None:
    log = runs()
    for index in range(len(log.records) - 1):
        one, two = log.records[index], log.records[index + 1]
        swapped = [*log.records]
        swapped[index] = two._replace(offset=one.offset)
        swapped[index + 1] = one._replace(offset=two.offset)
        finding = only(audit(swapped, level))
        assert (finding.kind, finding.offset) == ("gap", one.offset)


@pytest.mark.contract("audit-verify")
@LEVELS
def test_an_inserted_record(level: str) -> None:
    """In the place of a transaction's marker, or among others with all behind it moved."""
    log = runs()
    for index in range(1, len(log.records)):
        copy = log.records[index - 1]._replace(offset=log.records[index].offset)
        moved = [record._replace(offset=record.offset + 1) for record in log.records[index:]]
        found = audit([*log.records[:index], copy, *moved], level)
        if copy.key == b"\x00claim":
            assert found.ok, "a claim whose number is not above the last is one that lost: it changes nothing"
        else:
            assert only(found).offset == copy.offset


@pytest.mark.contract("audit-verify")
@LEVELS
@pytest.mark.parametrize("batches", [1, 100])
def test_a_tail_cut(level: str, batches: int) -> None:
    """Its chains verify; the witness says that it was cut, and from which offset on."""
    log = clean(steps=120)
    footers = [at for at, record in enumerate(log.records) if record.key == FOOTER]
    cut = log.records[: footers[-1 - batches] + 1]
    assert "prefix only" in verdict(audit(cut, level))
    assert "complete up to" in verdict(audit(log.records, level, head(log)))
    finding = only(audit(cut, level, head(log)))
    assert (finding.kind, finding.offset) == ("witness", cut[-1].offset + 1)
    assert f"its tail was cut from offset {cut[-1].offset + 1} on" in finding.detail


@pytest.mark.contract("audit-verify")
@LEVELS
def test_a_run_removed_with_its_chain_recomputed(level: str) -> None:
    """Every chain of the new log verifies; the head that was signed of the old one is another, or elsewhere."""
    log, forged = runs(), runs(without="r2")
    assert audit(forged.records, level).ok
    witness = head(log)
    finding = only(audit(forged.records, level, witness))
    assert finding.kind == "witness"
    assert finding.offset == forged.records[-1].offset + 1, "one batch less: the head is not there"
    early = runs(steps=1)
    shorter = [record for record in log.records if record.offset <= early.records[-1].offset]
    assert shorter[-1].key == FOOTER
    inside = head(runs(steps=2))._replace(batch=BatchId(1, 4))
    finding = only(audit(forged.records, level, inside))
    place = [record.offset for record in forged.records if record.key == FOOTER][4]
    assert (finding.kind, finding.offset) == ("witness", place)
    assert "rewritten" in finding.detail


@pytest.mark.contract("audit-verify")
@LEVELS
@pytest.mark.parametrize("ahead", [HOUR_MS, -HOUR_MS])
def test_a_back_dated_clock(level: str, ahead: int) -> None:
    """From one batch on the broker's clock is an hour off the engine's: named once, where it begins."""
    log = runs()
    begins = [at for at, record in enumerate(log.records) if record.key == FOOTER][3]
    stamped = [
        record._replace(timestamp_ms=record.timestamp_ms + (ahead if at >= begins else 0))
        for at, record in enumerate(log.records)
    ]
    assert audit(stamped, level).ok, "not judged unless asked for"
    assert audit(stamped, level, max_skew_ms=2 * HOUR_MS).ok
    finding = only(audit(stamped, level, max_skew_ms=300_000))
    assert (finding.kind, finding.offset) == ("clock", log.records[begins].offset)
    assert f"3600 s {'before' if ahead > 0 else 'after'} the broker's" in finding.detail


@LEVELS
def test_a_clock_that_goes_back_between_two_batches(level: str) -> None:
    log = runs(steps=1)
    log.now -= 10 * SECOND
    log.event("SignalReceived", {"name": "go", "payload": NULL, "cause": cause("g", 4)}, "late", "late")
    log.heads.clear()
    log.position = 9
    log.footer()
    offsets = {finding.offset for finding in audit(log.records, level).findings if "clock" in finding.detail}
    assert offsets == {log.records[-1].offset}


def test_an_event_outside_its_batch_s_time() -> None:
    log = runs(steps=1)
    log.position = 9
    log.event("RunStarted", started("s-late", 5), "late", "late", recorded_at_ms=log.now - HOUR_MS)
    log.footer()
    finding = only(audit(log.records, "full", max_skew_ms=300_000))
    assert (finding.kind, finding.offset) == ("clock", log.records[-2].offset)


def test_a_log_that_a_person_took_over_keeps_its_times() -> None:
    clocks = Clocks(300_000)
    clocks.footer(1_700_000_000_000, 1_700_000_000_000 + HOUR_MS, 10)
    assert [offset for offset, _ in clocks.end(0)] == [10]
    assert not list(clocks.end(11))


# -- the two readers agree ---------------------------------------------------------------------------------------------


def both(
    records: Sequence[RawRecord], monkeypatch: pytest.MonkeyPatch, level: str = "chain", max_skew_ms: int = 0
) -> tuple[Audit, int]:
    """The verdict, which both readers must give; how many batches the fast one took."""
    taken = 0
    fast = ChainReader.batch

    def counted(self: ChainReader, *given: Any) -> Any:
        nonlocal taken
        found = fast(self, *given)
        taken += found is not None
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ChainReader, "batch", counted)
        found = audit(records, level, max_skew_ms=max_skew_ms)
    with monkeypatch.context() as patch:
        patch.setattr(ChainReader, "batch", lambda *given: None)
        slow = audit(records, level, max_skew_ms=max_skew_ms)
    assert found.findings == slow.findings
    assert found.partitions == slow.partitions
    return found, taken


@LEVELS
def test_the_fast_reader_takes_nearly_all_of_a_whole_log(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = runs(6, 9)
    found, taken = both(log.records, monkeypatch, level, HOUR_MS)
    assert found.ok
    assert taken == found.partitions[0].batches - 1, "the first footer is decoded"
    assert (found.partitions[0].runs, found.partitions[0].closed_runs) == (6, 6)
    assert found.partitions[0].step_results == (54 if level == "full" else 0)


Bend = Callable[[EventLog], None]

BENT: dict[str, Bend] = {
    "an event after the end": lambda log: log.event("SignalReceived", {"name": "go", "payload": NULL}, "r0", "r0"),
    "a number left out": lambda log: log.event("StepScheduled", scheduled(9), "r9", "r9", seq=7),
    "another hash before": lambda log: log.event("StepScheduled", scheduled(9), "r9", "r9", prev_hash=b"x" * 32),
    "another index": lambda log: log.event("StepScheduled", scheduled(9), "r9", "r9", batch_index=3),
    "another batch": lambda log: log.event("StepScheduled", scheduled(9), "r9", "r9", batch_no=99),
    "another claim": lambda log: log.event("StepScheduled", scheduled(9), "r9", "r9", claim_no=2),
    "a run begun twice": lambda log: log.event("RunStarted", started("again", 0), "r9", "r9"),
    "a command of later": lambda log: log.event(
        "SignalReceived", {"name": "go", "payload": NULL, "cause": cause("g", 70)}, "r9", "r9"
    ),
}


@LEVELS
@pytest.mark.parametrize("what", BENT)
@pytest.mark.parametrize("before", [0, 1], ids=["first", "second"])
def test_what_does_not_follow_is_left_to_the_reader_that_decodes(
    what: str, before: int, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Roots and footers are recomputed, so that only this one thing is wrong; good batches follow."""
    log = runs(2, 3)
    log.position = 60
    log.event("RunStarted", started("s9", 50), "r9", "r9")
    log.event("StepScheduled", scheduled(0), "r9", "r9")
    log.footer()
    for number in range(before):
        log.event("SignalReceived", {"name": "go", "payload": NULL}, "r9", "r9")
        assert number == 0
    BENT[what](log)
    log.footer()
    log.event("SignalReceived", {"name": "go", "payload": NULL}, "r9", "r9")
    log.footer()
    found, _ = both(log.records, monkeypatch, level)
    assert not found.ok


Lawless = Callable[[EventLog, str], None]


def timer(log: EventLog, run: str, *, early: bool) -> None:
    """One that is due in a minute, and fires."""
    due = log.now + 60_000
    log.event("TimerSet", {"turn": 1, "path": "0", "n": 9, "due_at_ms": due, "call_site": "f"}, run, run)
    log.footer()
    log.now += 1 if early else 60_000
    log.event("TimerFired", {"timer": "0:9", "due_at_ms": due}, run, run)
    log.footer()
    if not early:
        log.event("TimerFired", {"timer": "0:9", "due_at_ms": due}, run, run)


def twice(log: EventLog, run: str) -> None:
    """The same result."""
    for _ in range(2):
        log.event("StepCompleted", completed(0), run, run)


LAWLESS: dict[str, Lawless] = {
    "a result twice": twice,
    "a result of nothing": lambda log, run: log.event("StepCompleted", completed(7), run, run),
    "a step twice": lambda log, run: log.event("StepScheduled", scheduled(0), run, run),
    "an early timer": lambda log, run: timer(log, run, early=True),
    "a timer twice": lambda log, run: timer(log, run, early=False),
}


@pytest.mark.contract("audit-verify")
@pytest.mark.parametrize("what", LAWLESS)
def test_a_law_is_broken_in_a_batch_that_follows(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes before the bodies are as foretold: the fast reader takes it, and says what the other says."""
    log = runs(2, 3)
    log.position = 60
    log.event("RunStarted", started("s9", 50), "r9", "r9")
    log.event("StepScheduled", scheduled(0), "r9", "r9")
    log.footer()
    LAWLESS[what](log, "r9")
    log.footer()
    found, taken = both(log.records, monkeypatch, "full")
    assert only(found).kind == "law"
    assert taken == found.partitions[0].batches - 1


class Garbled(EventLog):
    """One record has a byte too much; all that is hashed is made of it as it is."""

    at = 0

    def append(self, name: str, key: bytes, fields: dict[str, Any]) -> bytes:
        hashed = super().append(name, key, fields)
        if len(self.records) - 1 != self.at:
            return hashed
        self.records[-1] = self.records[-1]._replace(value=self.records[-1].value + b"\0")
        return event_hash(key, self.records[-1].value)


def test_a_body_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(len(runs(2, 2).records)):
        log = Garbled()
        log.at = at
        found, _ = both(runs(2, 2, log=log).records, monkeypatch, "full")
        assert only(found).kind == "undecodable"


@pytest.mark.parametrize(
    "bent",
    [{"level": 2}, {"event_count": 9}, {"prev_footer_hash": b"x" * 32}, {"root": b"x" * 32}, {"batch_no": 0},
     {"now_ms": 1}, {"seq": 1}, {"claim_no": 0},
     {"position": {"cluster_id": "k", "topic_id": "c", "partition": 0, "offset": 0}}],
    ids=lambda bent: next(iter(bent)),
)  # fmt: skip
def test_a_footer_that_does_not_follow(bent: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    log = runs(2, 3)
    log.event("RunStarted", started("s9", 1), "r9", "r9")
    log.footer(**bent)
    both(log.records, monkeypatch)


@LEVELS
def test_both_say_the_same_of_any_change(level: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = runs(4, 6).records
    named = 0
    for _ in range(250):
        records = [*whole]
        at = rng.randrange(len(records))
        one = records[at]
        kind = rng.randrange(5)
        if kind == 0:
            where = rng.randrange(len(one.value))
            byte = bytes([one.value[where] ^ (1 << rng.randrange(8))])
            records[at] = one._replace(value=one.value[:where] + byte + one.value[where + 1 :])
        elif kind == 1:
            records[at] = one._replace(key=bytes(reversed(one.key)) + b"x")
        elif kind == 2:
            records[at] = one._replace(value=one.value[: rng.randrange(len(one.value))])
        elif kind == 3:
            records[at : at + rng.randrange(1, 4)] = []
        else:
            records.insert(rng.randrange(len(records)), one)
        found, _ = both(records, monkeypatch, level, HOUR_MS)
        named += not found.ok
    assert named > 200, f"{named} of 250 changes were noticed"
