"""A long batch that was aborted at the log's end is no hanging transaction: a claim is what ends a restore."""

from __future__ import annotations

import pytest

from orchestrator.codec.records import Codec
from orchestrator.engine.inbox import Inbox
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.ownership import Ground
from orchestrator.engine.restored import NEAR
from orchestrator.store.memory_store import MemoryStore
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, create_topics


@pytest.mark.slow
def test_a_long_aborted_batch_at_the_end_does_not_stop_a_take_over() -> None:
    cluster, group = MemoryCluster(), MemoryGroup(1)
    create_topics(cluster, "shop", 1)
    dead, log = (MemoryLog(cluster, "shop", group) for _ in range(2))
    lanes = dead.lanes(0)
    lanes.init()
    lanes.begin([(b"k", b"%d" % number) for number in range(NEAR + 1)])
    lanes.init()
    codec = Codec()
    owner = Ground(0, log, codec, MemoryStore(codec), Inbox(lambda: None, lambda: None), EngineOptions(hang_s=1.0))
    owner.take_over()
    assert owner.claim_no == 1
    dead.close()
    log.close()
