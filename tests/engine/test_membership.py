"""What an engine does with the partitions that its membership gives and takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from orchestrator import Orchestrator, failpoints
from orchestrator.core import events as e
from orchestrator.engine.run import Engine
from tests.engine.rig import Rig

Make = Callable[[Orchestrator], Rig]

app = Orchestrator("membership")


def by_hand(world: Rig, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine to which the test, and nobody else, gives partitions once it has got them all."""
    engine = world.engine()
    world.start("before", echo, "a")
    assert world.result("before") == b'"a"'
    monkeypatch.setattr(engine.log.membership(), "released", lambda number: None)
    return engine


@app.workflow
async def echo(word: str) -> str:
    return word


@pytest.fixture
def slow_release() -> Iterator[None]:
    """The thread of a partition takes a while to end."""
    failpoints.install(",".join(f"K24:{hit}:sleep=0.3" for hit in (1, 2)))
    yield
    failpoints.install("")


@pytest.mark.parametrize("lost", [True, False])
def test_a_partition_given_back_before_its_thread_has_ended_is_claimed_again(
    rig: Make, monkeypatch: pytest.MonkeyPatch, slow_release: None, lost: bool
) -> None:
    """A process that was frozen hears of the loss and of the new assignment in one breath."""
    world = rig(app)
    engine = by_hand(world, monkeypatch)
    numbers = sorted(engine.partitions)
    engine._revoked(numbers, lost)
    engine._assigned(numbers)
    for number in range(4):
        world.start(f"after-{number}", echo, "b")
        assert world.result(f"after-{number}") == b'"b"'
    raws = [raw for records in world.records("events").values() for raw in records]
    bodies = [world.codec.decode_event(raw.key, raw.value).event.body for raw in raws]
    assert sum(isinstance(body, e.PartitionClaimed) for body in bodies) == 2 * len(numbers)


def test_a_partition_that_was_taken_away_is_not_begun_again(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = rig(app)
    engine = by_hand(world, monkeypatch)
    threads = list(engine.partitions.values())
    engine._revoked(sorted(engine.partitions), True)
    assert all(thread.join(30) for thread in threads)
    assert not engine.partitions
