"""What an engine says of its end: which partitions it could not release, and which were no longer its own."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from orchestrator import Orchestrator
from orchestrator.engine.loop import PartitionLoop
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from orchestrator.log.ports import Fenced
from orchestrator.testing.memory_log import MemoryLanes
from tests.engine.rig import Rig, until

pytestmark = pytest.mark.slow

Make = Callable[[Orchestrator], Rig]


def owning(one: Rig, **options: object) -> Engine:
    """An engine that owns both partitions."""
    engine = one.engine(EngineOptions(**options), stores={})  # type: ignore[arg-type]
    until(lambda: [partition.state for partition in list(engine.partitions.values())] == [State.OWNED] * 2)
    return engine


def test_what_was_released_is_not_left(rig: Make) -> None:
    engine = owning(rig(Orchestrator("stop")))
    assert engine.stop(1.0) == []
    assert engine.stop(1.0) == []


def test_without_a_broker_partitions_are_left_and_named(
    rig: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = owning(rig(Orchestrator("stop")))

    def gone(*_: object) -> None:
        raise Fenced("nothing was acknowledged")

    monkeypatch.setattr(MemoryLanes, "begin", gone)
    with caplog.at_level(logging.ERROR):
        assert engine.stop(1.0) == [0, 1]
    assert "partitions 0, 1 were not released, as after a crash" in caplog.text


def test_what_another_has_taken_is_not_ours_to_release(
    rig: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As for one that stood still, and is asked to end in the moment in which it goes on."""
    one = rig(Orchestrator("stop"))
    first = owning(one)
    # It does not look at what others write; it meets their fence.
    monkeypatch.setattr(PartitionLoop, "_watch_for_others", lambda self: None)
    one.site.group = type(one.site.group)(2)  # type: ignore[attr-defined]
    second = owning(one)
    assert first.stop(1.0) == []
    assert caplog.text.count(f"claimed by {second.options.instance}") == 2
    assert second.stop(1.0) == []
