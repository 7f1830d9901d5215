"""Static assignment: nobody claims a partition by an older map than the one it was claimed by last."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.engine.options import EngineOptions
from orchestrator.store.memory_store import MemoryStore
from tests.engine.rig import Rig, until

Make = Callable[[Orchestrator], Rig]


def claimed(one: Rig) -> list[int]:
    """Generations of the claims on the log."""
    bodies = [batch.footer.event.body for batch in one.batches() if batch.is_claim]
    return [body.generation for body in bodies if isinstance(body, e.PartitionClaimed)]


def test_an_older_map_is_refused_whatever_state_its_engine_has(rig: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = rig(Orchestrator("maps"))
    newer = one.engine(EngineOptions(generation=2))
    until(lambda: len(claimed(one)) == one.site.partitions)
    newer.stop(1.0)
    before = len(claimed(one))
    empty: dict[int, MemoryStore] = {}
    refused = "claimed by generation 2 of the static map, and this engine has generation 1: give it the newer map"
    for stores in (one.stores, empty):
        caplog.clear()
        older = one.engine(EngineOptions(generation=1), stores=stores)
        # Each partition says so as often as it tries.
        until(lambda: len({said[:12] for said in caplog.messages if refused in said}) == one.site.partitions)
        older.stop(1.0)
    assert len(claimed(one)) == before
    # Without a map (0), as a repair has it, and by the same or a newer one it is claimed; a repair changes no map.
    for generation in (0, 2, 3):
        count = len(claimed(one))
        engine = one.engine(EngineOptions(generation=generation))
        until(lambda count=count: len(claimed(one)) == count + one.site.partitions)
        engine.stop(1.0)
    assert claimed(one)[before:].count(3) == one.site.partitions
