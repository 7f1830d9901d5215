"""Reading to the end: committed records alone or all of them, from an offset on, and transactions that stay open."""

from __future__ import annotations

import time

import pytest

from orchestrator.log import hanging as hanging_module
from orchestrator.log.hanging import abort_lanes, hanging
from orchestrator.log.ports import Lanes, Wire
from orchestrator.log.reader import read_partition
from tests.log.world import WAIT_S, KafkaWorld

pytestmark = pytest.mark.broker


def wires(world: KafkaWorld, from_offset: int = 0, isolation: str = "read_committed") -> list[Wire]:
    """Records of events/0."""
    slices = read_partition(world.config(), f"{world.app}.events", 0, from_offset, isolation)
    return [wire for found in slices for wire in found]


def values(world: KafkaWorld, from_offset: int = 0, isolation: str = "read_committed", least: int = 0) -> list[bytes]:
    """Their values, once there are `least`: a commit's marker is written a little after its answer."""
    end = time.monotonic() + WAIT_S
    while True:
        found = [wire.value for wire in wires(world, from_offset, isolation)]
        if len(found) >= least or time.monotonic() > end:
            return found


def commit(lanes: Lanes, *values: bytes) -> None:
    """One transaction."""
    lanes.begin([(b"k", value) for value in values])
    lanes.commit()


def test_an_empty_partition_is_read_at_once(kafka_world: KafkaWorld) -> None:
    assert values(kafka_world) == []


def test_committed_and_uncommitted_from_an_offset_on(kafka_world: KafkaWorld) -> None:
    lanes = kafka_world.log().lanes(0)
    lanes.init()
    commit(lanes, b"0", b"1")
    lanes.begin([(b"k", b"void")])
    lanes.init()
    commit(lanes, b"5")
    assert values(kafka_world, least=3) == [b"0", b"1", b"5"]
    assert values(kafka_world, 1) == [b"1", b"5"]
    assert values(kafka_world, 0, "read_uncommitted") == [b"0", b"1", b"void", b"5"]
    lanes.close()


def test_more_than_one_slice_is_read_whole_and_in_order(kafka_world: KafkaWorld) -> None:
    lanes = kafka_world.log().lanes(0)
    lanes.init()
    expected = [b"%d" % number for number in range(5_000)]
    for start in range(0, 5_000, 1_000):
        commit(lanes, *expected[start : start + 1_000])
    assert values(kafka_world, least=5_000) == expected
    lanes.close()


def test_what_follows_an_open_transaction_is_not_read_and_the_transaction_is_told(
    kafka_world: KafkaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"{kafka_world.app}.events"
    lanes, other = kafka_world.log().lanes(0), kafka_world.log(lanes=3).lanes(0)
    other.init()
    commit(other, b"0")
    commit(other, b"1")
    other.begin([(b"k", b"open")])
    # Owners of two lanes that do not know of the third cannot end it.
    lanes.init()
    commit(lanes, b"hidden")
    assert values(kafka_world, least=2) == [b"0", b"1"]
    at = next(wire.offset for wire in wires(kafka_world, 0, "read_uncommitted") if wire.value == b"open")
    (found,) = hanging(kafka_world.config(), topic, older_than_s=0)
    assert (found.topic, found.partition, found.first) == (topic, 0, at)
    assert f"abort --topic {topic} --partition 0 --start-offset {at}" in found.sentence()
    assert hanging(kafka_world.config(), topic) == [], "it is not older than its time-out yet"
    monkeypatch.setattr(hanging_module, "MARKED_S", 0.0)
    (left,) = abort_lanes(kafka_world.config(), found)
    assert left.first == at, "it is not theirs to end"
    lanes.init(other.names)
    assert values(kafka_world, least=3) == [b"0", b"1", b"hidden"]
    assert hanging(kafka_world.config(), topic, older_than_s=0) == []
    lanes.close()
    other.close()
