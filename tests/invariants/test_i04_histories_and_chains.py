"""I4: `seq` is 1..n without gap, both chains verify, any earlier read is a prefix of a later one."""

from __future__ import annotations

import itertools

from orchestrator.codec.records import event_hash
from orchestrator.core.replay import NO_FOOTER
from tests.invariants.load import Load


def test_i4_seq_and_chains_hold_and_earlier_reads_are_prefixes(load: Load) -> None:
    load.fail_commits(seed=4)
    engine = load.engine()
    reads = [load.records("events")]
    for _ in range(3):
        load.run(2)
        reads.append(load.records("events"))
    engine = load.take_over(engine)
    load.run(2)
    load.heal()
    engine.stop(1.0)
    reads.append(load.records("events"))
    for earlier, later in itertools.pairwise(reads):
        for number, records in earlier.items():
            assert later[number][: len(records)] == records
    heads: dict[str, tuple[int, bytes]] = {}
    chains: dict[int, bytes] = {}
    for batch in load.batches():
        for record in batch.records:
            assert record.hash == event_hash(record.key, record.value)
            if record.event.seq:
                seq, head = heads.get(record.event.run_id, (0, NO_FOOTER))
                assert (record.event.seq, record.event.prev_hash) == (seq + 1, head)
                heads[record.event.run_id] = (record.event.seq, record.hash)
        if not batch.is_claim:
            body = batch.footer.event.body
            partition = body.position.partition  # type: ignore[union-attr]
            assert body.prev_footer_hash == chains.get(partition, NO_FOOTER)  # type: ignore[union-attr]
            chains[partition] = batch.footer.hash
    assert len(heads) == 8
    assert len(chains) == load.site.partitions
    load.judge()
