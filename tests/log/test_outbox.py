"""The outgoing producer: in order, by murmur2, and a reason for what can never be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from orchestrator.log import outbox
from orchestrator.log.config import LogConfig
from orchestrator.log.outbox import KafkaOutgoing
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Out
from tests.log.world import PARTITIONS, KafkaWorld, Receipts, World, send


def test_records_of_a_partition_keep_their_order(world: World) -> None:
    log = world.log()
    values = [b"%d" % number for number in range(500)]
    send(log, *(Out(f"{log.app}.commands", 1, b"k", value) for value in values))
    assert [wire.value for wire in world.visible("commands", 1)] == values


def test_without_a_partition_the_key_decides_as_in_java(world: World) -> None:
    log = world.log()
    keys = [b"order-%d" % number for number in range(20)]
    send(log, *(Out(f"{log.app}.commands", -1, key, b"v") for key in keys))
    for partition in range(PARTITIONS):
        found = [wire.key for wire in world.visible("commands", partition)]
        assert found == [key for key in keys if partition_of(key, PARTITIONS) == partition]


def test_a_missing_topic_and_a_record_too_large_delay_nobody_else(world: World) -> None:
    log, receipts = world.log(), Receipts()
    commands = f"{log.app}.commands"
    log.outgoing().send(Out(f"{log.app}.tasks.none", 0, b"k", b"v"), receipts.done("missing"))
    log.outgoing().send(Out(commands, 0, b"k", bytes(1_200_000)), receipts.done("large"))
    log.outgoing().send(Out(commands, 0, b"k", b"good"), receipts.done("good"))
    assert receipts.of("good") == ""
    assert receipts.of("large") != ""
    assert receipts.of("missing") != ""
    assert [wire.value for wire in world.visible("commands", 0)] == [b"good"]


def test_a_record_of_a_mebibyte_goes_through(world: World) -> None:
    log = world.log()
    send(log, Out(f"{log.app}.commands", 0, b"k", bytes(1_048_000)))
    assert len(world.visible("commands", 0)[0].value) == 1_048_000


class ScriptedProducer:
    """librdkafka's producer where a fatal error is wanted: the broker gives none on request."""

    made: list[ScriptedProducer]

    def __init__(self, options: dict[str, Any]) -> None:
        self.sent: list[bytes] = []
        self._trouble: Callable[[KafkaError], None] = options["error_cb"]
        self._callbacks: list[Callable[[KafkaError | None, None], None]] = []
        self._dead = False
        self.made.append(self)

    def list_topics(self, topic: str, timeout: float) -> None:
        """A broker answers."""

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, **options: Any) -> None:
        """The first producer dies at the third record."""
        if self._dead:
            raise KafkaException(KafkaError(KafkaError._FATAL, "dead", fatal=True))
        self.sent.append(value)
        self._callbacks.append(options["on_delivery"])

    def poll(self, timeout_s: float) -> int:
        """Serve what waits: all of it, or the first two records and then the end."""
        callbacks, self._callbacks = self._callbacks, []
        first = self is self.made[0]
        for at, told in enumerate(callbacks):
            broken = first and (self._dead or at >= 2)
            told(KafkaError(KafkaError._PURGE_INFLIGHT) if broken else None, None)
        if first and len(callbacks) > 2:
            self._dead = True
            self._trouble(KafkaError(KafkaError._FATAL, "dead", fatal=True))
        return len(callbacks)

    def flush(self, timeout_s: float) -> int:
        """As librdkafka's: serve callbacks."""
        self.poll(timeout_s)
        return 0

    def purge(self) -> None:
        """Nothing is queued elsewhere."""


class GuardingProducer(ScriptedProducer):
    """A broker behind it takes commands from those alone who may write them."""

    may_write = False
    room = 10**9
    refuses_at_once: set[bytes] = set()  # noqa: RUF012

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self.taken: list[bytes] = []

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, **options: Any) -> None:
        if len(self.sent) >= self.room:
            raise BufferError
        if value in self.refuses_at_once:
            self.refuses_at_once.remove(value)
            raise KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
        super().produce(topic, value, key, partition, **options)

    def poll(self, timeout_s: float) -> int:
        callbacks, self._callbacks = self._callbacks, []
        sent, self.sent = self.sent, []
        for value, told in zip(sent, callbacks, strict=True):
            if taken := self.may_write or value.startswith(b"reply"):
                self.taken.append(value)
            told(None if taken else KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), None)
        return len(callbacks)


def guarded(monkeypatch: pytest.MonkeyPatch, keeps: str = "") -> KafkaOutgoing:
    """One that the test serves itself, behind which nobody may write commands yet."""
    monkeypatch.setattr(GuardingProducer, "made", [], raising=False)
    monkeypatch.setattr(outbox, "Producer", GuardingProducer)
    monkeypatch.setattr(outbox, "TRY_S", 0.0)
    monkeypatch.setattr(KafkaOutgoing, "_serve", lambda self: None)
    return KafkaOutgoing(LogConfig("a", "nowhere:1"), keeps=keeps)


def test_what_is_refused_is_kept_in_order_with_all_that_comes_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    outgoing, receipts = guarded(monkeypatch, keeps="a.commands"), Receipts()

    def send(topic: str, value: str) -> None:
        outgoing.send(Out(f"a.{topic}", 0, b"k", value.encode()), receipts.done(value))

    send("commands", "1")
    send("commands", "2")
    outgoing.serve_once(0)
    assert "lacks the right Write on topic a.commands" in outgoing.refused()
    send("commands", "3")
    send("replies", "reply")
    outgoing.serve_once(0)
    assert receipts.of("reply") == "", "others go on"
    monkeypatch.setattr(GuardingProducer, "may_write", True)
    for number in range(4, 7):
        outgoing.serve_once(0)
        send("commands", str(number))
    outgoing.serve_once(0)
    assert [receipts.of(str(number)) for number in range(1, 7)] == [""] * 6
    assert GuardingProducer.made[0].taken == [b"reply", b"1", b"2", b"3", b"4", b"5", b"6"]
    assert outgoing.refused() == ""
    outgoing.close()


def test_what_was_kept_and_finds_no_room_is_not_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    outgoing, receipts = guarded(monkeypatch, keeps="a.commands"), Receipts()

    def send(number: int) -> None:
        outgoing.send(Out("a.commands", 0, b"k", str(number).encode()), receipts.done(str(number)))

    for number in range(1, 6):
        send(number)
    outgoing.serve_once(0)
    monkeypatch.setattr(GuardingProducer, "may_write", True)
    monkeypatch.setattr(GuardingProducer, "room", 2)
    number = 5
    while outgoing.refused():
        if number < 11:
            number += 1
            send(number)
        outgoing.serve_once(0)
    outgoing.serve_once(0)
    assert number > 6
    assert GuardingProducer.made[0].taken == [str(one).encode() for one in range(1, number + 1)]
    assert [receipts.of(str(one)) for one in range(1, number + 1)] == [""] * number
    outgoing.close()


def test_what_is_refused_again_at_once_is_kept_again(monkeypatch: pytest.MonkeyPatch) -> None:
    outgoing, receipts = guarded(monkeypatch, keeps="a.commands"), Receipts()
    for value in (b"1", b"2", b"3"):
        outgoing.send(Out("a.commands", 0, b"k", value), receipts.done(value.decode()))
    outgoing.serve_once(0)
    monkeypatch.setattr(GuardingProducer, "may_write", True)
    monkeypatch.setattr(GuardingProducer, "refuses_at_once", {b"2"})
    outgoing.serve_once(0)
    assert outgoing.refused() != ""
    outgoing.send(Out("a.commands", 0, b"k", b"4"), receipts.done("4"))
    while outgoing.refused():
        outgoing.serve_once(0)
    outgoing.serve_once(0)
    assert GuardingProducer.made[0].taken == [b"1", b"2", b"3", b"4"]
    outgoing.close()


def test_a_caller_that_may_not_write_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    outgoing, receipts = guarded(monkeypatch), Receipts()
    outgoing.send(Out("a.commands", 0, b"k", b"1"), receipts.done("1"))
    outgoing.serve_once(0)
    assert "lacks the right Write on topic a.commands" in receipts.of("1")
    outgoing.close()


def test_a_fatal_error_loses_no_record_and_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedProducer, "made", [], raising=False)
    monkeypatch.setattr(outbox, "Producer", ScriptedProducer)
    monkeypatch.setattr(KafkaOutgoing, "_serve", lambda self: None)
    outgoing, receipts = KafkaOutgoing(LogConfig("a", "nowhere:1")), Receipts()
    for value in (b"1", b"2", b"3", b"4"):
        outgoing.send(Out("a.commands", 0, b"k", value), receipts.done(value.decode()))
    outgoing.serve_once(0)
    outgoing.send(Out("a.commands", 0, b"k", b"5"), receipts.done("5"))
    outgoing.serve_once(0)
    assert [producer.sent for producer in ScriptedProducer.made] == [[b"1", b"2", b"3", b"4"], [b"3", b"4", b"5"]]
    assert [receipts.of(name) for name in "12345"] == [""] * 5
    outgoing.close()


@pytest.mark.broker
def test_a_command_waits_for_a_partition_that_is_about_to_come(kafka_world: KafkaWorld) -> None:
    log, receipts = kafka_world.log(), Receipts()
    commands, replies = (f"{kafka_world.app}.{name}" for name in ("commands", "replies"))
    log.outgoing().send(Out(commands, PARTITIONS, b"k", b"early"), receipts.done("early"))
    log.outgoing().send(Out(commands, 0, b"k", b"other"), receipts.done("other"))
    log.outgoing().send(Out(replies, 99, b"k", b"never"), receipts.done("never"))
    assert receipts.of("other") == ""
    assert "partition" in receipts.of("never").lower(), "nobody waits for a reply's partition"
    admin = AdminClient({"bootstrap.servers": kafka_world.bootstrap})
    admin.create_partitions([NewPartitions(commands, PARTITIONS + 1)])[commands].result(30)
    assert receipts.of("early") == ""
    assert [wire.value for wire in kafka_world.visible("commands", PARTITIONS)] == [b"early"]
