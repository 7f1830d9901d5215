"""Membership: partitions are dealt once each, a revoke waits for the release, and offsets are for tools."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka import Consumer, TopicPartition

from orchestrator.log.kafka_log import KafkaLog
from orchestrator.log.membership import GroupMembership, StaticMembership
from orchestrator.log.ports import Membership
from tests.log.world import PARTITIONS, WAIT_S, KafkaWorld, MemoryWorld, World

ALL = set(range(PARTITIONS))


class Member:
    """A process as its membership sees it. It releases what is revoked at once, unless told to hold on."""

    def __init__(self, membership: Membership, name: str, told: list[str], changed: threading.Condition) -> None:
        self.membership = membership
        self.owned: set[int] = set()
        self.revoked: set[int] = set()
        self.holds_on = False
        self._name = name
        self._told = told
        self._changed = changed
        membership.start(self._assigned, self._revoked)

    def release(self) -> None:
        """Be done with what was revoked."""
        with self._changed:
            numbers, self.revoked = sorted(self.revoked), set()
        for number in numbers:
            with self._changed:
                self.owned.discard(number)
                self._told.append(f"{self._name} releases {number}")
            self.membership.released(number)

    def _assigned(self, numbers: Sequence[int]) -> None:
        with self._changed:
            self.owned |= set(numbers)
            self._told += [f"{self._name} owns {number}" for number in numbers]
            self._changed.notify_all()

    def _revoked(self, numbers: Sequence[int], lost: bool) -> None:
        with self._changed:
            self.revoked |= set(numbers) & self.owned
            self._changed.notify_all()
        if not self.holds_on:
            self.release()


class Stage:
    """The members of one group."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[str] = []
        self.members: list[Member] = []
        self._changed = threading.Condition()

    def join(self) -> Member:
        """Another process joins."""
        name = f"member {len(self.members)}"
        self.members.append(Member(self.world.log().membership(), name, self.told, self._changed))
        return self.members[-1]

    def wait(self, met: Callable[[], bool]) -> None:
        """Until something holds."""
        with self._changed:
            owned = [member.owned for member in self.members]
            assert self._changed.wait_for(met, WAIT_S), f"{self.told}: {owned}"


def kafka_stage(request: pytest.FixtureRequest, protocol: str) -> World:
    """A real broker's group of one protocol."""
    return KafkaWorld(request.getfixturevalue("kafka").bootstrap, protocol)


@pytest.fixture(
    params=["memory", *(pytest.param(name, marks=pytest.mark.broker) for name in ("classic", "consumer"))],
)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A group with no member yet, in memory and under both of Kafka's protocols."""
    made = Stage(MemoryWorld() if request.param == "memory" else kafka_stage(request, request.param))
    try:
        yield made
    finally:
        for member in made.members:
            member.holds_on = False
            member.release()
            member.membership.stop()
        made.world.close()


def test_one_member_owns_all(stage: Stage) -> None:
    one = stage.join()
    stage.wait(lambda: one.owned == ALL)
    assert one.membership.healthy()


@pytest.mark.broker
@pytest.mark.parametrize("stage", ["classic", "consumer"], indirect=True)
def test_a_member_has_given_everything_back_before_its_group_is_closed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stage.join()
    stage.wait(lambda: one.owned == ALL)
    assert isinstance(one.membership, GroupMembership)
    owned_at_close: list[set[int]] = []
    consumer = one.membership._consumer

    class Closing:
        """The consumer, watched."""

        def __getattr__(self, name: str) -> object:
            if name == "close":
                owned_at_close.append(set(one.owned))
            return getattr(consumer, name)

    monkeypatch.setattr(one.membership, "_consumer", Closing())
    one.membership.stop()
    assert owned_at_close == [set()]


def test_a_second_member_gets_its_share_once_the_first_has_released_it(stage: Stage) -> None:
    one = stage.join()
    stage.wait(lambda: one.owned == ALL)
    two = stage.join()
    stage.wait(lambda: bool(one.owned) and bool(two.owned) and one.owned | two.owned == ALL)
    assert not one.owned & two.owned
    for number in two.owned:
        assert stage.told.index(f"member 0 releases {number}") < stage.told.index(f"member 1 owns {number}")


def test_nobody_gets_what_is_not_released(stage: Stage) -> None:
    one = stage.join()
    stage.wait(lambda: one.owned == ALL)
    one.holds_on = True
    two = stage.join()
    stage.wait(lambda: bool(one.revoked))
    moving = set(one.revoked)
    assert not two.owned & moving
    one.holds_on = False
    one.release()
    stage.wait(lambda: bool(two.owned) and one.owned | two.owned == ALL)
    assert not one.owned & two.owned


def test_a_member_that_leaves_gives_back_what_it_had(stage: Stage) -> None:
    one = stage.join()
    stage.wait(lambda: one.owned == ALL)
    two = stage.join()
    stage.wait(lambda: bool(two.owned) and one.owned | two.owned == ALL and not one.owned & two.owned)
    two.release()
    two.membership.stop()
    stage.wait(lambda: one.owned == ALL)
    assert not two.membership.healthy()


def committed(world: KafkaWorld, partition: int) -> TopicPartition:
    """The group's offset, as a tool finds it."""
    consumer = Consumer({"bootstrap.servers": world.bootstrap, "group.id": world.config().group})
    try:
        return consumer.committed([TopicPartition(f"{world.app}.commands", partition)], timeout=WAIT_S)[0]
    finally:
        consumer.close()


def test_a_later_process_finds_the_notes(stage: Stage) -> None:
    """Also while nobody is in the group, and for a partition without one."""
    before = stage.world.log()
    assert before.noted(1) == ""
    one = stage.join()
    stage.wait(lambda: one.owned == ALL)
    one.membership.commit_offset(1, 7, "3/2 ab")
    one.release()
    one.membership.stop()
    assert (before.noted(1), stage.world.log().noted(1), before.noted(2)) == ("3/2 ab", "3/2 ab", "")


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_members_offsets_reach_the_group_with_their_notes(request: pytest.FixtureRequest, protocol: str) -> None:
    made = Stage(kafka_stage(request, protocol))
    assert isinstance(made.world, KafkaWorld)
    one = made.join()
    made.wait(lambda: one.owned == ALL)
    one.membership.commit_offset(1, 5, "an older note")
    one.membership.commit_offset(1, 7, "batch 3/2 root ab")
    one.membership.stop()
    found = committed(made.world, 1)
    assert (found.offset, found.metadata) == (7, "batch 3/2 root ab")
    made.world.close()


@pytest.mark.broker
def test_a_static_map_assigns_without_a_group_and_commits_offsets(kafka_world: KafkaWorld) -> None:
    log = KafkaLog(kafka_world.config(assignment=(1, 3)))
    assert isinstance(log.membership(), StaticMembership)
    told: list[str] = []
    one = Member(log.membership(), "static", told, threading.Condition())
    assert one.owned == {1, 3}
    assert one.membership.healthy()
    one.membership.commit_offset(3, 9, "note")
    one.membership.stop()
    found = committed(kafka_world, 3)
    assert (found.offset, found.metadata) == (9, "note")
    assert not one.membership.healthy()
    log.close()


@pytest.mark.broker
def test_two_static_members_of_one_instance_id_do_not_both_own(kafka_world: KafkaWorld) -> None:
    """KIP-848 refuses the newer member for good: it says so and is not healthy, however long its thread polls."""
    config = dataclasses.replace(kafka_world.config(), instance_id="pod-0")
    twins = [GroupMembership(config) for _ in range(2)]
    changed = threading.Condition()
    told: list[str] = []
    first = Member(twins[0], "first", told, changed)
    with changed:
        assert changed.wait_for(lambda: first.owned == ALL, WAIT_S)
    second = Member(twins[1], "second", told, changed)
    end = time.monotonic() + WAIT_S
    while twins[1].healthy():
        assert time.monotonic() < end, "a member that the group refused calls itself healthy"
        time.sleep(0.05)
    assert (first.owned, second.owned) == (ALL, set())
    assert twins[0].healthy()
    for twin in twins:
        twin.stop()
