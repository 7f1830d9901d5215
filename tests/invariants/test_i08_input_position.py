"""I8: the input position of the last valid footer equals what state reflects; group offsets are never ahead of it."""

from __future__ import annotations

from orchestrator.core.events import BatchFooter
from orchestrator.core.rows import META, POSITION_KEY
from tests.invariants.load import Load


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


def test_i8_group_offsets_are_never_ahead_of_the_footer(load: Load) -> None:
    ahead: list[tuple[int, int]] = []
    seen: dict[int, int] = {}
    engine = load.engine()
    for _ in range(4):
        load.run(1)
        seen = load.site.group_offsets()
        ahead += beyond_the_footers(load, seen)
    engine.stop(1.0)
    at_the_end = load.site.group_offsets()
    assert at_the_end, "no offset was ever committed"
    assert all(at_the_end[number] >= offset for number, offset in seen.items())
    assert not ahead + beyond_the_footers(load, at_the_end)


def beyond_the_footers(load: Load, offsets: dict[int, int]) -> list[tuple[int, int]]:
    """Group offsets, read before now, that are above the input position of the last footer that there is now."""
    footers: dict[int, int] = {}
    for batch in load.batches():
        body = batch.footer.event.body
        if isinstance(body, BatchFooter):
            footers[body.position.partition] = body.position.offset
    return [(number, offset) for number, offset in offsets.items() if offset > footers.get(number, 0)]
