"""Tail and inputs: in order, nothing behind an open transaction, paused and resumed, and a loss that is told."""

from __future__ import annotations

import time

from orchestrator.log.ports import Log, Out
from tests.log.world import WAIT_S, Sink, World, send


def commands(log: Log, *values: bytes, partition: int = 0) -> None:
    """Send commands to one partition."""
    send(log, *(Out(f"{log.app}.commands", partition, b"k", value) for value in values))


def follow(log: Log, offset: int = 0, partition: int = 0) -> Sink:
    """Follow a commands partition."""
    sink = Sink()
    log.inputs().follow(partition, offset, sink.put, sink.put_lost)
    return sink


def test_inputs_come_in_order_with_all_that_belongs_to_them(world: World) -> None:
    log = world.log()
    record = Out(f"{log.app}.commands", 2, b"key", b"value", (("h", b"1"),))
    send(log, record)
    sink = follow(log, partition=2)
    sink.wait_values(b"value")
    (wire,) = sink.wires
    assert (wire.topic, wire.partition, wire.offset, wire.key, wire.headers) == (
        record.topic,
        2,
        0,
        b"key",
        record.headers,
    )
    assert wire.timestamp_ms > 0
    commands(log, *(b"%d" % number for number in range(100)), partition=2)
    sink.wait_values(b"value", *(b"%d" % number for number in range(100)))
    assert [wire.offset for wire in sink.wires] == list(range(101))


def test_following_starts_at_the_offset_and_can_be_started_again(world: World) -> None:
    log = world.log()
    commands(log, b"0", b"1", b"2")
    sink = follow(log, 1)
    sink.wait_values(b"1", b"2")
    again = follow(log, 0)
    again.wait_values(b"0", b"1", b"2")
    commands(log, b"3")
    again.wait_values(b"0", b"1", b"2", b"3")
    assert sink.values() == [b"1", b"2"], "the older sink was replaced"


def test_partitions_go_to_their_own_sinks(world: World) -> None:
    log = world.log()
    zero, one = follow(log, partition=0), follow(log, partition=1)
    commands(log, b"1", partition=1)
    commands(log, b"0", partition=0)
    zero.wait_values(b"0")
    one.wait_values(b"1")


def test_a_paused_partition_waits_and_the_others_do_not(world: World) -> None:
    log = world.log()
    paused, other = follow(log, partition=0), follow(log, partition=1)
    log.inputs().pause(0)
    commands(log, b"held", partition=0)
    commands(log, b"other", partition=1)
    other.wait_values(b"other")
    assert paused.values() == []
    log.inputs().resume(0)
    paused.wait_values(b"held")


def test_following_anew_ends_a_pause(world: World) -> None:
    log = world.log()
    first = follow(log)
    log.inputs().pause(0)
    log.inputs().unfollow(0)
    commands(log, b"1")
    follow(log).wait_values(b"1")
    assert first.values() == []


def test_nothing_comes_after_unfollow(world: World) -> None:
    log = world.log()
    gone, kept = follow(log, partition=0), follow(log, partition=1)
    commands(log, b"1", partition=0)
    gone.wait_values(b"1")
    log.inputs().unfollow(0)
    commands(log, b"2", partition=0)
    commands(log, b"x", partition=1)
    kept.wait_values(b"x")
    assert gone.values() == [b"1"]


def test_a_position_below_the_logs_start_is_a_loss(world: World) -> None:
    log = world.log()
    commands(log, b"0", b"1", b"2")
    world.cut("commands", 0, 2)
    sink = follow(log, 0)
    sink.wait(lambda found: bool(found.lost))
    assert (sink.lost, sink.values()) == ([2], [])
    follow(log, 2).wait_values(b"2")


def test_bounds_of_inputs_are_asked_now(world: World) -> None:
    log = world.log()
    assert log.inputs().bounds(0) == (0, 0)
    commands(log, b"0", b"1", b"2")
    assert log.inputs().bounds(0) == (0, 3)
    world.cut("commands", 0, 1)
    assert log.inputs().bounds(0) == (1, 3)


def until_reached(log: Log, offset: int) -> None:
    """Wait until the reader of commands says that it came so far."""
    deadline = time.monotonic() + WAIT_S
    while log.inputs().reached(0) != offset:
        assert time.monotonic() < deadline, log.inputs().reached(0)
        time.sleep(0.005)


def test_inputs_are_read_to_the_end_over_the_markers_of_transactions(world: World) -> None:
    log = world.log()
    world.transact("commands", 0, b"0", b"1")
    sink = follow(log)
    sink.wait_values(b"0", b"1")
    # The marker has the offset 2: it is never delivered, and there is nothing more to wait for.
    until_reached(log, 3)
    world.transact("commands", 0, b"2")
    sink.wait_values(b"0", b"1", b"2")
    until_reached(log, 5)
    assert log.inputs().bounds(0) == (0, 5)


def test_a_pause_and_a_new_beginning_do_not_lose_the_end(world: World) -> None:
    log = world.log()
    world.transact("commands", 0, b"0")
    follow(log).wait_values(b"0")
    until_reached(log, 2)
    log.inputs().pause(0)
    world.transact("commands", 0, b"1")
    log.inputs().resume(0)
    until_reached(log, 4)
    log.inputs().pause(0)
    log.inputs().resume(0)
    again = follow(log, 3)
    assert log.inputs().reached(0) <= 4
    until_reached(log, 4)
    assert again.values() == []
    log.inputs().unfollow(0)
    assert log.inputs().reached(0) == 0


def test_the_tail_sees_a_batch_when_it_is_committed_and_not_before(world: World) -> None:
    log = world.log()
    lanes, sink = log.lanes(0), Sink()
    lanes.init()
    log.tail().follow(0, 0, sink.put)
    lanes.begin([(b"k", b"1"), (b"k", b"2")])
    lanes.commit()
    sink.wait_values(b"1", b"2")
    lanes.begin([(b"k", b"3")])
    # The other lane's marker is behind the open record: what is stable ends before it.
    assert log.tail().bounds(0) == (0, 3)
    assert sink.values() == [b"1", b"2"]
    lanes.commit()
    sink.wait_values(b"1", b"2", b"3")
    lanes.close()


def test_the_tail_goes_on_behind_what_was_aborted(world: World) -> None:
    log = world.log()
    lanes, sink = log.lanes(0), Sink()
    log.tail().follow(0, 0, sink.put)
    lanes.init()
    lanes.begin([(b"k", b"void")])
    lanes.init()
    lanes.begin([(b"k", b"kept")])
    lanes.commit()
    sink.wait_values(b"kept")
    lanes.close()
