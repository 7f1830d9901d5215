"""The audit: a whole log verifies; what was changed, removed or cut is named by its offset."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orchestrator.codec.records import Codec
from orchestrator.core.apply.fold import Settings
from orchestrator.core.values import BatchId
from orchestrator.log.ports import Wire
from orchestrator.projections.audit import (
    Audit,
    AuditOptions,
    Progress,
    StateNotComparable,
    verify,
)
from orchestrator.projections.audit_report import as_json, lines, verdict
from orchestrator.projections.audit_witness import Witness, witness_of
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import state_hash
from tests.oracle.logs import NULL, SECOND, EventLog, cause, clean, completed, scheduled, started
from tests.oracle.raw import RawRecord

CODEC = Codec()


def wires(records: Sequence[RawRecord]) -> list[Wire]:
    """The hand-made log as a reader gives it."""
    return [Wire(*record) for record in records]


def audit(log: EventLog | Sequence[RawRecord], options: AuditOptions | None = None) -> Audit:
    """The verdict on one partition."""
    records = log.records if isinstance(log, EventLog) else log
    return verify({0: [wires(records)]}, CODEC, options or AuditOptions())


def head(log: EventLog) -> Witness:
    """A signed witness of the log's end."""
    event = CODEC.decode_event(log.records[-1].key, log.records[-1].value).event
    return Witness(BatchId(event.claim_no, event.batch_no), log.chain, "the anchor", 1_700_000_100_000)


def test_a_whole_log_verifies_as_a_prefix() -> None:
    found = audit(clean())
    part = found.partitions[0]
    assert found.ok
    assert not found.findings
    assert (part.claims, part.void_events, part.runs, part.closed_runs, part.step_results) == (2, 1, 1, 1, 3)
    assert part.batches == sum(record.key == b"\x00footer" for record in clean().records)
    assert "prefix only, no anchor" in verdict(found)


def test_a_signed_head_makes_it_complete() -> None:
    log = clean()
    found = audit(log, AuditOptions(witnesses={0: [head(log)]}))
    assert found.ok
    assert "signed head" in verdict(found)
    text = "\n".join(lines(found))
    assert "complete up to head 2/" in text
    assert "signed at 2023-11-14T" in text
    assert as_json(found)["ok"] is True


@pytest.mark.contract("audit-verify")
@pytest.mark.parametrize("batches", [1, 3])
def test_a_cut_tail_is_seen_by_its_witness(batches: int) -> None:
    log = clean()
    footers = [index for index, record in enumerate(log.records) if record.key == b"\x00footer"]
    cut = log.records[: footers[-1 - batches] + 1]
    assert audit(cut).ok, "without a witness a cut tail is a valid prefix"
    found = audit(cut, AuditOptions(witnesses={0: [head(log)]}))
    assert [finding.kind for finding in found.findings] == ["witness"]
    assert "its tail was cut" in found.findings[0].detail
    assert "NOT whole" in verdict(found)


def test_the_note_of_a_group_offset_is_a_witness() -> None:
    log = clean()
    batch = head(log).batch
    note = f"{batch.claim_no}/{batch.batch_no} {log.chain.hex()}"
    witness = witness_of(note, "the group's offset")
    assert witness == Witness(batch, log.chain, "the group's offset")
    assert audit(log, AuditOptions(witnesses={0: [witness]})).ok
    assert witness_of("", "x") is witness_of("1/2", "x") is witness_of("a/b zz", "x") is None


def test_an_empty_partition_with_a_witness_was_cut() -> None:
    found = verify({0: []}, CODEC, AuditOptions(witnesses={0: [head(clean())]}))
    assert [finding.kind for finding in found.findings] == ["witness"]


def test_a_rewritten_log_is_seen_by_its_witness() -> None:
    log = clean()
    other = head(log)._replace(footer_hash=b"x" * 32)
    found = audit(log, AuditOptions(witnesses={0: [other]}))
    assert found.findings[0].offset == log.records[-1].offset
    assert "rewritten" in found.findings[0].detail


@pytest.mark.contract("audit-verify")
def test_a_changed_byte_is_named() -> None:
    log = clean()
    index = next(i for i, record in enumerate(log.records) if b"s1" in record.value)
    changed = log.records[index]
    log.records[index] = changed._replace(value=changed.value.replace(b"s1", b"s9"))
    found = audit(log)
    assert found.findings[0].kind == "gap"
    assert f"offsets {changed.offset} to" in found.findings[0].detail


@pytest.mark.contract("audit-verify")
@pytest.mark.parametrize("index", range(1, len(clean().records) - 1))
def test_any_removed_record_is_noticed(index: int) -> None:
    log = clean()
    removed = log.records.pop(index)
    if removed.key == b"\x00claim":
        assert not audit(log).ok
        return
    event = CODEC.decode_event(removed.key, removed.value).event
    void = type(event.body).__name__ == "TimerSet" and event.claim_no == 1
    assert audit(log).ok == void, "only a void event may be missing"


@pytest.mark.contract("audit-verify")
def test_reordered_and_inserted_records_are_noticed() -> None:
    log = clean()
    log.records[1], log.records[2] = log.records[2], log.records[1]
    assert audit(log).findings[0].kind == "gap"
    log = clean()
    log.records.insert(2, log.records[1])
    assert audit(log).findings[0].kind == "gap"


def test_garbage_is_named_by_its_offset() -> None:
    log = clean()
    log.records.append(log.records[-1]._replace(offset=999, value=b"garbage"))
    found = audit(log)
    assert (found.findings[0].kind, found.findings[0].offset) == ("undecodable", 999)


def begun() -> EventLog:
    log = EventLog()
    log.claim()
    log.position = 1
    log.event("RunStarted", started())
    log.event("StepScheduled", scheduled(0))
    log.footer()
    return log


def test_a_run_removed_with_footers_recomputed_breaks_its_chain() -> None:
    log = EventLog()
    log.claim()
    log.position = 1
    log.heads["r"] = (2, b"h" * 32)
    log.event("StepCompleted", completed(0))
    log.footer()
    found = audit(log)
    assert [finding.kind for finding in found.findings] == ["chain"]
    assert "beginning is not on the log" in found.findings[0].detail


def test_broken_chains_are_findings_and_reading_goes_on() -> None:
    log = begun()
    log.event("StepCompleted", completed(0), prev_hash=b"x" * 32)
    log.footer()
    log.event("StepScheduled", scheduled(1), seq=9)
    log.footer()
    found = audit(log)
    assert [finding.kind for finding in found.findings] == ["chain", "chain"]
    assert found.partitions[0].batches == 3


def test_laws_are_checked_at_level_full_only() -> None:
    log = begun()
    log.event("StepCompleted", completed(0))
    log.event("StepCompleted", completed(0))
    log.event("TimerSet", {"turn": 1, "path": "0", "n": 1, "due_at_ms": log.now + SECOND, "call_site": "f"})
    log.event("TimerFired", {"timer": "0:1", "due_at_ms": log.now})
    log.event("TimerFired", {"timer": "0:1", "due_at_ms": log.now})
    log.event("ChildCompleted", {"child": "0:5", "result": NULL})
    log.record("CommandRejected", {"command": "c", "code": "c", "message": "m", "cause": cause("s1", 0)}, "w")
    log.footer()
    found = audit(log)
    assert [finding.kind for finding in found.findings] == ["law"] * 5
    for law, finding in zip(("(I1)", "(I6)", "(I6)", "(I1)", "(I2)"), found.findings, strict=True):
        assert law in finding.detail
    assert audit(log, AuditOptions(level="chain")).ok


@pytest.mark.parametrize(("days", "laws"), [(13, 1), (14, 0)])
def test_an_id_means_one_command_for_as_long_as_engines_remember_it(days: int, laws: int) -> None:
    log = begun()
    for _ in range(2):
        log.record("CommandRejected", {"command": "c", "code": "c", "message": "m", "cause": cause("late", 0)}, "w")
        log.footer()
        log.now += days * 86_400 * SECOND
    assert ["(I2)" in finding.detail for finding in audit(log).findings] == [True] * laws


def test_an_event_after_the_end_is_a_broken_chain() -> None:
    log = begun()
    log.event("RunCompleted", {"turn": 1, "result": NULL})
    log.event("SignalReceived", {"name": "go", "payload": NULL})
    log.footer()
    assert "its run has ended" in audit(log).findings[0].detail


def test_the_clock_and_the_input_position_never_go_back() -> None:
    log = begun()
    log.now, log.position = log.now - 1, 0
    log.event("SignalReceived", {"name": "go", "payload": NULL, "cause": cause("g", 3)})
    log.footer()
    details = " ".join(finding.detail for finding in audit(log).findings)
    assert "clock goes back" in details
    assert "position goes back" in details
    assert "reflects command offset 3" in details


def test_events_without_a_footer_at_the_end() -> None:
    log = begun()
    log.event("StepCompleted", completed(0))
    found = audit(log)
    assert (found.findings[0].kind, found.findings[0].offset) == ("gap", log.records[-1].offset)


def test_a_range_begins_at_its_first_footer() -> None:
    records = clean().records[3:]
    start = {0: records[0].offset}
    found = audit(records, AuditOptions(starts=start))
    assert found.ok, found.findings
    assert found.partitions[0].first_offset == records[0].offset
    assert found.partitions[0].batches == sum(record.key == b"\x00footer" for record in records) - 1
    assert not audit(records).ok, "unless told so, it is the whole log"


@pytest.mark.parametrize("index", range(1, len(clean().records)))
def test_a_range_may_begin_anywhere(index: int) -> None:
    records = clean().records[index:]
    assert audit(records, AuditOptions(starts={0: records[0].offset})).ok


def folded(log: EventLog) -> bytes:
    """The hash that a state directory of `log` would have: kept from a first audit's scratch store."""
    kept = MemoryStore(CODEC)
    options = AuditOptions(state_hash=lambda p: b"", scratch=lambda p: kept, settings=Settings("app"))
    assert audit(log, options).partitions[0].state == "different"
    return state_hash(kept)


@pytest.mark.contract("audit-verify")
def test_state_folded_from_the_log_is_compared() -> None:
    expected = folded(clean())
    equal = AuditOptions(state_hash=lambda p: expected, settings=Settings("app"))
    assert audit(clean(), equal).partitions[0].state == "equal"
    shorter = folded(begun())
    other = AuditOptions(state_hash=lambda p: shorter, settings=Settings("app"))
    found = audit(clean(), other)
    assert [finding.kind for finding in found.findings] == ["state"]


def test_state_needs_the_log_s_start_and_the_settings() -> None:
    with pytest.raises(StateNotComparable, match="from the log's start"):
        audit(clean(), AuditOptions(starts={0: 3}, state_hash=lambda p: b"", settings=Settings("app")))
    with pytest.raises(StateNotComparable, match="settings"):
        audit(clean(), AuditOptions(state_hash=lambda p: b""))
    assert audit(clean(), AuditOptions(state_hash=lambda p: None)).partitions[0].state == "not compared"


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.projections.audit.PROGRESS_EVERY", 4)
    told: list[Progress] = []
    audit(clean(), AuditOptions(progress=told.append))
    whole = len(clean().records)
    assert [progress.records // 4 for progress in told] == list(range(1, whole // 4 + 1)), "as batches pass it"
    assert told[-1].records <= whole
