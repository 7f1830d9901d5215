"""I8: the input position of the last valid footer equals what state reflects; group offsets are never ahead of it."""

from __future__ import annotations

from orchestrator.core.events import BatchFooter
from orchestrator.core.rows import META, POSITION_KEY
from tests.invariants.load import Load, MemorySite


def test_i8_the_last_footer_s_input_position_is_what_state_reflects(load: Load) -> None:
    load.fail_commits(seed=8)
    engine = load.engine()
    load.run()
    load.heal()
    engine.stop(1.0)
    last: dict[int, tuple[BatchFooter, int]] = {}
    reached: dict[int, int] = {}
    for batch in load.batches():
        body = batch.footer.event.body
        if isinstance(body, BatchFooter):
            number = body.position.partition
            last[number] = body, batch.offset
            answered = [record.event.cause.offset for record in batch.records if record.event.cause.offset >= 0]
            assert body.position.offset > max(answered, default=-1)
            assert body.position.offset >= reached.get(number, 0), "the input position went back"
            reached[number] = body.position.offset
    assert len(last) == load.site.partitions
    for number, (footer, offset) in last.items():
        row = load.stores[number].get(META, POSITION_KEY)
        assert row.position == footer.position
        assert row.next_offset == offset + 1
    load.judge()


def test_i8_group_offsets_are_never_ahead_of_the_footer(memory: Load) -> None:
    site = memory.site
    assert isinstance(site, MemorySite)
    ahead: list[tuple[int, int]] = []
    engine = memory.engine()
    for _ in range(4):
        memory.run(1)
        committed = {number: offset for number, (offset, _) in site.group.offsets.items()}
        footers: dict[int, int] = {}
        for batch in memory.batches():
            if isinstance(batch.footer.event.body, BatchFooter):
                position = batch.footer.event.body.position
                footers[position.partition] = position.offset
        ahead += [(n, offset) for n, offset in committed.items() if offset > footers.get(n, 0)]
    engine.stop(1.0)
    assert site.group.offsets, "no offset was ever committed"
    assert not ahead
