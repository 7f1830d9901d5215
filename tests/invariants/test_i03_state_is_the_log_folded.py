"""I3: state rebuilt from offset 0 equals live state, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core import commands as c
from orchestrator.core.apply.fold import Settings
from orchestrator.engine.partition import State
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.partition_store import PartitionStore
from orchestrator.store.rows import Store, state_hash
from tests.engine import dumps
from tests.invariants.load import Load

pytestmark = pytest.mark.slow


def fold(load: Load, number: int, store: Store) -> bytes:
    """The hash of what the whole log of a partition folds to."""
    dumps.fold(store, load.codec, Settings(load.app.name), load.records("events")[number])
    return state_hash(store)


def test_i3_state_rebuilt_from_offset_0_equals_live_state(load: Load, tmp_path: Path) -> None:
    load.fail_commits(seed=3)
    engine = load.engine()
    load.run()
    # Open runs with everything pending: steps, timers, signals nobody took.
    load.start("open", load.work, 2)
    load.start("asleep", load.naps, 1, 3_600_000)
    load.hold.clear()
    load.start("held", load.holds, 1)
    load.ask("nobody", c.CancelWorkflow())
    load.heal()
    engine.stop(0.0)
    live = load.hashes()
    assert len(live) == load.site.partitions
    for number, hashed in live.items():
        assert fold(load, number, MemoryStore(load.codec)) == hashed
        disk = PartitionStore(tmp_path / str(number), load.codec)
        assert fold(load, number, disk) == hashed
        disk.close()


def test_i3_a_restored_engine_stands_where_the_live_one_stood(load: Load) -> None:
    first = load.engine()
    load.run(4)
    load.start("asleep", load.naps, 1, 3_600_000)
    first.stop(1.0)
    rebuilt: dict[int, MemoryStore] = {}
    second = load.engine(stores=rebuilt)
    assert load.ask("asleep", c.QueryWorkflow("describe")).outcome == "answered"
    load.run(1)
    second.stop(1.0)
    # The first one's directories catch up by the tail alone.
    third = load.engine()
    load.ask("asleep", c.QueryWorkflow("describe"))
    load.run(1)
    third.stop(1.0)
    for number, store in load.stores.items():
        assert fold(load, number, MemoryStore(load.codec)) == state_hash(store)


def test_i3_a_state_with_a_claim_and_no_batch_is_the_fold_of_that_claim(memory: Load) -> None:
    """Nothing else was committed: what the oracle compares must reach to the claim."""
    engine = memory.engine()
    load_all = range(memory.site.partitions)
    # Owned, so that the claim was written with all that belongs to it: this thread reads beside the engine's.
    while not all(one in engine.partitions and engine.partitions[one].state is State.OWNED for one in load_all):
        memory.site.wait(0.01)
    found = memory.dumps()
    engine.stop(1.0)
    assert [found[number].live == found[number].rebuilt for number in load_all] == [True, True]
    assert all(found[number].live["meta"] for number in load_all)
