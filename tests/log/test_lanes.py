"""Lanes: alternate, commit only, and a fence that no older owner passes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

import orchestrator
from orchestrator.log.ports import Fenced, Lanes
from tests.log.world import WAIT_S, World


def commit(lanes: Lanes, *values: bytes) -> None:
    """One transaction."""
    lanes.begin([(b"k", value) for value in values])
    lanes.commit()


def see(world: World, *expected: bytes, partition: int = 0) -> None:
    """What is visible in an events partition; a commit's marker is written a little after its answer."""
    end = time.monotonic() + WAIT_S
    while True:
        found = [wire.value for wire in world.visible("events", partition)]
        if len(found) >= len(expected) or time.monotonic() > end:
            break
    assert found == list(expected)


def test_transactions_go_through_the_lanes_in_turn_and_keep_their_order(world: World) -> None:
    lanes = world.log().lanes(0)
    lanes.init()
    for value in (b"1", b"2", b"3", b"4"):
        commit(lanes, value, value + b"'")
    see(world, b"1", b"1'", b"2", b"2'", b"3", b"3'", b"4", b"4'")
    lanes.close()


def test_what_is_not_committed_is_not_seen_and_is_void_after_the_next_init(world: World) -> None:
    log = world.log()
    lanes = log.lanes(0)
    lanes.init()
    commit(lanes, b"kept")
    lanes.begin([(b"k", b"open")])
    see(world, b"kept")
    lanes.close()
    lanes.init()
    commit(lanes, b"after")
    see(world, b"kept", b"after")
    lanes.close()


def test_a_zombie_with_an_open_transaction_is_fenced(world: World) -> None:
    old, new = world.log().lanes(0), world.log().lanes(0)
    old.init()
    old.begin([(b"k", b"zombie")])
    new.init()
    with pytest.raises(Fenced):
        old.commit()
    commit(new, b"new")
    see(world, b"new")
    old.close()
    new.close()


@pytest.mark.parametrize("lane", [0, 1])
def test_a_zombie_is_fenced_on_either_lane(world: World, lane: int) -> None:
    old, new = world.log().lanes(0), world.log().lanes(0)
    old.init()
    for number in range(lane):
        commit(old, b"%d" % number)
    new.init()
    with pytest.raises(Fenced):
        commit(old, b"zombie")
    commit(new, b"new")
    see(world, *(b"%d" % number for number in range(lane)), b"new")
    old.close()
    new.close()


@pytest.mark.parametrize("lane", [0, 1])
def test_of_three_owners_only_the_newest_goes_on_on_either_lane(world: World, lane: int) -> None:
    """The two before it are fenced, the second one in the middle of a transaction, whichever of them tries first."""
    first, second, third = (world.log().lanes(0) for _ in range(3))
    first.init()
    for number in range(lane):
        commit(first, b"%d" % number)
    second.init()
    for number in range(lane):
        commit(second, b"%d'" % number)
    second.begin([(b"k", b"open")])
    third.init()
    for zombie in (first, second):
        with pytest.raises(Fenced):
            zombie.commit() if zombie is second else commit(zombie, b"zombie")
    # A fenced owner that fences in its turn is the newest, and the third the zombie.
    commit(third, b"third")
    first.init()
    with pytest.raises(Fenced):
        commit(third, b"zombie")
    commit(first, b"first again")
    before = [b"%d" % number for number in range(lane)] + [b"%d'" % number for number in range(lane)]
    see(world, *before, b"third", b"first again")
    for lanes in (first, second, third):
        lanes.close()


def test_a_lane_named_by_an_older_claim_is_fenced_too(world: World) -> None:
    old, new = world.log(lanes=3).lanes(0), world.log(lanes=2).lanes(0)
    old.init()
    commit(old, b"a")
    commit(old, b"b")
    new.init([name for name in old.names if name not in new.names])
    with pytest.raises(Fenced):
        commit(old, b"c")
    see(world, b"a", b"b")
    old.close()
    new.close()


def test_after_init_the_first_lane_is_next(world: World) -> None:
    """Claims go through the first lane, wherever the turn was: here somebody holds the first lane alone."""
    lanes, other = world.log().lanes(0), world.log(lanes=1).lanes(0)
    lanes.init()
    commit(lanes, b"through a")
    lanes.init()
    other.init()
    with pytest.raises(Fenced):
        commit(lanes, b"must not go through b")
    see(world, b"through a")
    lanes.close()
    other.close()


def test_two_partitions_do_not_fence_each_other(world: World) -> None:
    log = world.log()
    one, two = log.lanes(0), log.lanes(1)
    one.init()
    two.init()
    commit(one, b"one")
    commit(two, b"two")
    see(world, b"one", partition=0)
    see(world, b"two", partition=1)
    one.close()
    two.close()


def test_a_record_that_the_broker_refuses_ends_the_lanes(world: World) -> None:
    lanes = world.log().lanes(0)
    lanes.init()
    with pytest.raises(Fenced):
        commit(lanes, bytes(3_000_000))
    lanes.init()
    commit(lanes, b"after")
    see(world, b"after")
    lanes.close()


def test_closed_lanes_say_so(world: World) -> None:
    lanes = world.log().lanes(0)
    lanes.init()
    lanes.close()
    with pytest.raises(Fenced, match="closed"):
        lanes.begin([(b"k", b"v")])


def test_nothing_of_ours_can_send_an_abort() -> None:
    """Commit only (design.md §4): a delayed abort of one transaction ends the next one."""
    package = Path(orchestrator.__file__).parent
    named = {name for path in package.rglob("*.py") for name in re.findall(r"\.(\w+_transaction)\b", path.read_text())}
    assert "commit_transaction" in named
    assert "abort_transaction" not in named
