"""Lanes that any claim ever named are fenced by the next owner: the last claim may be one that came to nothing."""

from __future__ import annotations

import pytest

from orchestrator.codec.records import Codec
from orchestrator.core.events import Event, PartitionClaimed
from orchestrator.core.levels import LEVEL
from orchestrator.engine.inbox import Inbox
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.ownership import Ground
from orchestrator.log.ports import Fenced
from orchestrator.store.memory_store import MemoryStore
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, create_topics


def ground(log: MemoryLog, instance: str) -> Ground:
    """An owner about to take over partition 0."""
    codec, options = Codec(), EngineOptions(instance=instance)
    return Ground(0, log, codec, MemoryStore(codec), Inbox(lambda: None, lambda: None), options)


def test_a_claim_that_came_to_nothing_hides_no_older_lane() -> None:
    cluster, group = MemoryCluster(), MemoryGroup(1)
    create_topics(cluster, "shop", 1)
    three, two, again = (MemoryLog(cluster, "shop", group, lanes) for lanes in (3, 2, 2))
    zombie = ground(three, "zombie")
    zombie.take_over()
    # One that had restored before the zombie's claim: it claims under the same number and dies.
    lanes, codec, ids = two.lanes(0), Codec(), two.topic_ids()
    lanes.init()
    claim = PartitionClaimed(
        "n", "dead", "h", 1, "e", lanes.names, "exclusive", LEVEL, ids.commands, ids.events, ids.partitions, 0
    )
    record = codec.seal(Event("", "", 0, claim, claim_no=1))
    lanes.begin([(record.key, record.value)])
    lanes.commit()

    owner = ground(again, "owner")
    owner.take_over()
    for _ in zombie.lanes.names:
        with pytest.raises(Fenced):
            zombie.lanes.begin([(b"k", b"zombie")])
    for log in (three, two, again):
        log.close()
