"""A restore folds slower than the log sends: what waits is bounded, and nothing is missed for it."""

from __future__ import annotations

import threading
import uuid

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from orchestrator.engine import restored
from orchestrator.engine.inbox import Inbox
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.ownership import Ground
from orchestrator.engine.restored import Restored
from orchestrator.engine.standby import Follower
from orchestrator.log.ports import Wire
from orchestrator.store.memory_store import MemoryStore
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, create_topics
from tests.engine.rig import MemorySite, Rig
from tests.projections.test_audit_engine import Load, work


def test_a_restore_pauses_the_tail_and_folds_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load()
    engine = load.engine()
    engine.start()
    for number in range(8):
        load.accepted(f"w{number}", c.StartWorkflow("work", work.code.signature.bind((5,), {})))
        load.accepted(f"w{number}", c.SignalWorkflow("go", Payload(data=b"1000")))
        load.result(f"w{number}")
    engine.stop()

    paused: list[int] = []
    monkeypatch.setattr(Restored, "tail_room", (10, 5))
    monkeypatch.setattr(restored, "RESTORE_SLICE", 7)
    load.stores.clear()
    engine = load.engine()
    pause = engine.log.tail().pause
    monkeypatch.setattr(engine.log.tail(), "pause", lambda number: (paused.append(number), pause(number)))
    engine.start()
    assert all(int(load.result(f"w{number}")) == 1015 for number in range(8))
    engine.stop()
    assert paused
    assert all(isinstance(store, MemoryStore) for store in load.stores.values())


def test_a_batch_beyond_the_bound_is_no_reason_to_claim_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody folds what an owner reads back, and nobody would resume its reader."""
    app = Orchestrator(f"large-batch-{uuid.uuid4().hex[:6]}")

    @app.step(isolation="thread")
    async def add(x: int) -> int:
        return x + 1

    @app.workflow
    async def wide() -> int:
        return sum(await add.map(list(range(30))))

    monkeypatch.setattr(Restored, "tail_room", (10, 5))
    one = Rig(app, MemorySite(app.name, 1))
    try:
        one.engine()
        one.start("w", wide)
        assert one.result("w") == b"465"
        assert max(len(batch.records) for batch in one.batches()) > 30
        assert {event.claim_no for event in one.events("w")} == {1}
    finally:
        one.close()


@pytest.mark.parametrize("kind", [Ground, Follower])
def test_a_tail_is_not_resumed_before_it_is_paused(kind: type[Restored], monkeypatch: pytest.MonkeyPatch) -> None:
    """The partition folds everything while the reader's thread stands between deciding to pause, and pausing."""
    cluster, order = MemoryCluster(), list[str]()
    create_topics(cluster, "shop", 1)
    log, codec = MemoryLog(cluster, "shop", MemoryGroup(1)), Codec()
    one = kind(0, log, codec, MemoryStore(codec), Inbox(lambda: None, lambda: None), EngineOptions())
    within, go = threading.Event(), threading.Event()

    def pause(number: int) -> None:
        within.set()
        assert go.wait(30)
        order.append("pause")

    monkeypatch.setattr(one, "tail_room", (1, 2))
    monkeypatch.setattr(one.tail(), "pause", pause)
    monkeypatch.setattr(one.tail(), "resume", lambda number: order.append("resume"))
    wires = [Wire("shop.events", 0, n, 0, b"", b"") for n in range(3)]
    reader = threading.Thread(target=one._hear, args=(wires,))
    reader.start()
    assert within.wait(30)

    def fold() -> None:
        while one.inbox.tail:
            one._next()
        one._let_in()  # As each of the two does before it waits for more.

    partition = threading.Thread(target=fold)
    partition.start()
    partition.join(0.2)
    go.set()
    reader.join()
    partition.join()
    log.close()
    assert order == ["pause", "resume"]
