"""A restore folds slower than the log sends: what waits is bounded, and nothing is missed for it."""

from __future__ import annotations

import pytest

from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from orchestrator.engine import restored
from orchestrator.store.memory_store import MemoryStore
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
    monkeypatch.setattr(restored, "TAIL_HIGH", 10)
    monkeypatch.setattr(restored, "TAIL_LOW", 5)
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
