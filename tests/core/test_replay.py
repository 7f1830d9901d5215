"""The published rule of batches: shown at their footer, void before a claim, anything else stops the reader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.codec.records import Codec
from orchestrator.core import events as e
from orchestrator.core.levels import LEVEL
from orchestrator.core.replay import NO_FOOTER, Batch, BatchAssembler, root_of, turns_of
from orchestrator.core.values import BatchId, InputPosition, Payload
from orchestrator.errors import LogGap

CODEC = Codec()


class Writer:
    """Makes the records of a partition; a test leaves out or bends what it wants."""

    def __init__(self) -> None:
        self.claim_no = 0
        self.batch_no = 0
        self.prev = NO_FOOTER
        self.pending: list[e.Record] = []

    def claim(self, number: int | None = None) -> e.Record:
        self.claim_no = self.claim_no + 1 if number is None else number
        self.batch_no, self.pending = 1, []
        body = e.PartitionClaimed("n", "i", "h", 1, "python", ("a",), "exclusive", LEVEL, "c", "e", 1, 0)
        return CODEC.seal(e.Event("", "", 0, body, claim_no=self.claim_no))

    def event(self, index: int | None = None, batch_no: int | None = None, claim_no: int | None = None) -> e.Record:
        index = len(self.pending) if index is None else index
        place = (claim_no or self.claim_no, batch_no or self.batch_no, index)
        record = CODEC.seal(e.Event("w", "r", 1, e.TimerFired("0:1", 5), e.NO_CAUSE, 0, *place, NO_FOOTER))
        self.pending.append(record)
        return record

    def footer(self, claim_no: int | None = None, batch_no: int | None = None, **bent: object) -> e.Record:
        body = e.BatchFooter(
            self.prev,
            root_of(record.hash for record in self.pending),
            len(self.pending),
            InputPosition("k", "c", 0, 0),
            0,
            BatchId(0, 0),
            LEVEL,
        )._replace(**bent)  # type: ignore[arg-type]
        place = (claim_no or self.claim_no, batch_no or self.batch_no, len(self.pending))
        record = CODEC.seal(e.Event("", "", 0, body, e.NO_CAUSE, 0, *place))
        self.prev, self.pending = record.hash, []
        self.batch_no += 1
        return record


def feed(assembler: BatchAssembler, *records: e.Record) -> list[Batch]:
    """What becomes visible."""
    return [batch for at, record in enumerate(records) if (batch := assembler.feed(record, at)) is not None]


def test_a_batch_is_shown_at_its_footer() -> None:
    writer, assembler = Writer(), BatchAssembler("p")
    claim, one, two = writer.claim(), writer.event(), writer.event()
    assert [batch.is_claim for batch in feed(assembler, claim, one, two)] == [True]
    shown = feed(assembler, writer.footer())
    assert [batch.records for batch in shown] == [(one, two)]


def test_an_empty_batch_is_a_batch() -> None:
    writer = Writer()
    assert [batch.records for batch in feed(BatchAssembler("p"), writer.claim(), writer.footer())[1:]] == [()]


def test_records_without_a_footer_are_void_before_a_claim() -> None:
    writer, assembler = Writer(), BatchAssembler("p")
    records = [writer.claim(), writer.event(), writer.footer(), writer.event(), writer.event(), writer.claim()]
    shown = feed(assembler, *records, writer.event(), writer.footer())
    assert [batch.void for batch in shown] == [0, 0, 2, 0]
    assert len(shown[-1].records) == 1


def gap_without_footer(writer: Writer) -> list[e.Record]:
    return [writer.event(), writer.event(0, batch_no=2)]


def gap_in_index(writer: Writer) -> list[e.Record]:
    return [writer.event(1)]


def event_of_another_claim(writer: Writer) -> list[e.Record]:
    return [writer.event(claim_no=9)]


def footer_of_another_claim(writer: Writer) -> list[e.Record]:
    return [writer.footer(claim_no=9)]


def broken_chain(writer: Writer) -> list[e.Record]:
    return [writer.footer(prev_footer_hash=b"\x07" * 32)]


def wrong_count(writer: Writer) -> list[e.Record]:
    return [writer.event(), writer.footer(event_count=2)]


def wrong_root(writer: Writer) -> list[e.Record]:
    return [writer.event(), writer.footer(root=b"\x07" * 32)]


def reused_number(writer: Writer) -> list[e.Record]:
    return [writer.footer(), writer.footer(batch_no=1)]


def higher_level(writer: Writer) -> list[e.Record]:
    return [writer.footer(level=LEVEL + 1)]


@pytest.mark.parametrize(
    "bend",
    [
        gap_without_footer,
        gap_in_index,
        event_of_another_claim,
        footer_of_another_claim,
        broken_chain,
        wrong_count,
        wrong_root,
        reused_number,
        higher_level,
    ],
)
def test_anything_else_stops_the_reader_and_names_the_offset(bend: object) -> None:
    writer, assembler = Writer(), BatchAssembler("app.events/0")
    feed(assembler, writer.claim())
    with pytest.raises(LogGap, match=r"app\.events/0 offset \d"):
        feed(assembler, *bend(writer))  # type: ignore[operator]


def test_a_zombie_s_events_after_a_newer_claim_stop_the_reader() -> None:
    writer, assembler = Writer(), BatchAssembler("p")
    feed(assembler, writer.claim(), writer.claim())
    with pytest.raises(LogGap):
        feed(assembler, writer.event(claim_no=1))


def test_a_claim_with_a_lower_number_changes_nothing() -> None:
    writer, assembler = Writer(), BatchAssembler("p")
    feed(assembler, writer.claim(5), Writer().claim(3))
    assert assembler.claim_no == 5
    assert feed(assembler, writer.event(), writer.footer())


def test_a_cut_log_is_skipped_to_its_first_footer() -> None:
    writer, assembler = Writer(), BatchAssembler("p", skip_to_footer=True)
    writer.claim()
    writer.event()
    rest = [writer.event(), writer.footer()]
    assert feed(assembler, *rest) == []
    assert assembler.footer_hash == rest[-1].hash
    assert len(feed(assembler, writer.event(), writer.footer())) == 1


def test_a_cut_log_is_skipped_past_a_claim_to_its_first_footer() -> None:
    writer, assembler = Writer(), BatchAssembler("p", skip_to_footer=True)
    writer.claim()
    writer.footer()
    writer.event()
    cut = [writer.event(1), writer.claim(), writer.event(), writer.footer()]
    shown = feed(assembler, *cut)
    assert [batch.is_claim for batch in shown] == [True]
    assert assembler.claim_no == 2
    assert [len(batch.records) for batch in feed(assembler, writer.event(), writer.footer())] == [1]


def test_turns_pair_deliveries_with_what_their_turn_issued() -> None:
    def at(seq: int, body: e.Body) -> e.Event:
        return e.Event("w", "r", seq, body)

    step = e.StepScheduled(1, "0", 0, "s", "f:1", Payload())
    history = [
        at(1, e.RunStarted("t", 1, Payload(), "s")),
        at(2, step),
        at(3, e.StepCompleted("0:0", 1, Payload())),
        at(4, e.SignalReceived("go", Payload())),
        at(5, e.RunCompleted(4, Payload())),
    ]
    found = [(delivery.seq, [event.seq for event in issued]) for delivery, issued in turns_of(history)]
    assert found == [(1, [2]), (3, []), (4, [5])]


def test_turns_are_paired_as_the_history_is_read() -> None:
    """Deliveries that wait are no turns yet: nothing is read beyond what tells that a turn is whole."""
    read: list[int] = []

    def history() -> Iterator[e.Event]:
        bodies = [
            e.RunStarted("t", 1, Payload(), "s"),
            e.SignalReceived("go", Payload()),
            e.SignalReceived("go", Payload()),
            e.StepScheduled(1, "0", 0, "s", "f:1", Payload()),
            e.StepScheduled(1, "0", 1, "s", "f:1", Payload()),
            e.StepScheduled(3, "0", 2, "s", "f:1", Payload()),
            e.SignalReceived("go", Payload()),
        ]
        for seq, body in enumerate(bodies, 1):
            read.append(seq)
            yield e.Event("w", "r", seq, body)

    turns = turns_of(history())
    found = [(delivery.seq, [event.seq for event in issued], read[-1]) for delivery, issued in turns]
    assert found == [(1, [4, 5], 6), (2, [], 6), (3, [6], 7), (7, [], 7)]
