"""Transactions that stay open on a real broker: of a process that was killed, and one that no coordinator knows."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

WAIT_S = 30.0
AN_HOUR_MS = 3_600_000
TIME_OUT_MS = 900_000
"""The longest that a broker takes by default."""
PRODUCE, INIT_PRODUCER_ID = 0, 22
TRANSACTIONAL = 0x10

KILLED = """
import os, sys
from confluent_kafka import Producer
bootstrap, topic, partition, name, at_ms, time_out_ms = sys.argv[1:]
options = {"transactional.id": name, "transaction.timeout.ms": int(time_out_ms)}
producer = Producer({"bootstrap.servers": bootstrap, **options})
producer.init_transactions(30)
producer.begin_transaction()
producer.produce(topic, b"never committed", b"x", int(partition), timestamp=int(at_ms))
assert producer.flush(30) == 0
os.kill(os.getpid(), 9)
"""


def killed_writer(bootstrap: str, topic: str, partition: int, name: str) -> None:
    """A foreign process dies in a transaction on the topic; its coordinator keeps it open for a quarter of an hour."""
    at_ms = int(time.time() * 1000) - AN_HOUR_MS
    words = [bootstrap, topic, partition, name, at_ms, TIME_OUT_MS]
    with writers_times(bootstrap, topic):
        done = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


def forgotten(bootstrap: str, topic: str, partition: int, name: str) -> None:
    """A record of a transaction that was never registered: a broker that does not verify takes it, and it hangs.

    librdkafka would not send it: a connection and two requests of our own.
    """
    at_ms = int(time.time() * 1000) - AN_HOUR_MS
    with unverified(bootstrap), writers_times(bootstrap, topic), connected(bootstrap) as broker:
        asked = text(name) + struct.pack(">i", TIME_OUT_MS)
        error, producer, epoch = struct.unpack_from(">hqh", request(broker, INIT_PRODUCER_ID, 1, asked), 4)
        assert error == 0, error
        records = batch(producer, epoch, at_ms)
        part = struct.pack(">iii", 1, partition, len(records)) + records
        answer = request(broker, PRODUCE, 3, text(name) + struct.pack(">hii", -1, 30_000, 1) + text(topic) + part)
        (error,) = struct.unpack_from(">h", answer, 4 + len(text(topic)) + 8)
        assert error == 0, error


@contextlib.contextmanager
def connected(bootstrap: str) -> Iterator[socket.socket]:
    """A connection to the only broker."""
    host, port = bootstrap.split(":")
    with socket.create_connection((host, int(port)), WAIT_S) as broker:
        yield broker


def request(broker: socket.socket, api: int, version: int, body: bytes) -> bytes:
    """One request and the body of its answer."""
    frame = struct.pack(">hhi", api, version, 1) + text("test") + body
    broker.sendall(struct.pack(">i", len(frame)) + frame)
    with broker.makefile("rb") as answer:
        (length,) = struct.unpack(">i", answer.read(4))
        return answer.read(length)[4:]


def text(word: str) -> bytes:
    """A string as Kafka writes it."""
    return struct.pack(">h", len(word)) + word.encode()


def batch(producer: int, epoch: int, at_ms: int) -> bytes:
    """A record batch (format 2) of one record of a transaction."""
    key, value = b"x", b"forgotten"
    record = b"\x00" + varint(0) + varint(0) + varint(len(key)) + key + varint(len(value)) + value + varint(0)
    record = varint(len(record)) + record
    rest = struct.pack(">hiqqqhii", TRANSACTIONAL, 0, at_ms, at_ms, producer, epoch, 0, 1) + record
    head = struct.pack(">ibI", -1, 2, crc32c(rest))
    return struct.pack(">qi", 0, len(head) + len(rest)) + head + rest


def varint(number: int) -> bytes:
    """A small number that is not negative."""
    assert 0 <= number < 64
    return bytes([number << 1])


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@contextlib.contextmanager
def writers_times(bootstrap: str, topic: str) -> Iterator[None]:
    """The topic takes the writer's time for a while: a transaction can be an hour old at once."""
    place = (ResourceType.TOPIC, topic)
    alter(bootstrap, place, {"message.timestamp.type": "CreateTime"})
    try:
        yield
    finally:
        alter(bootstrap, place, {"message.timestamp.type": "LogAppendTime"})


@contextlib.contextmanager
def unverified(bootstrap: str) -> Iterator[None]:
    """The brokers do not ask the coordinator whether a partition belongs to a transaction, as before Kafka 3.6."""
    place = (ResourceType.BROKER, "1")
    option = "transaction.partition.verification.enable"
    alter(bootstrap, place, {option: "false"})
    try:
        yield
    finally:
        alter(bootstrap, place, {option: "true"})


def alter(bootstrap: str, place: tuple[ResourceType, str], changes: dict[str, str]) -> None:
    """Change settings, and wait until the brokers say so."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in changes.items()]
    for future in client.incremental_alter_configs([ConfigResource(*place, incremental_configs=entries)]).values():
        future.result(WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while True:
        (future,) = client.describe_configs([ConfigResource(*place)]).values()
        found = future.result(WAIT_S)
        if all(found[name].value == value for name, value in changes.items()):
            return
        assert time.monotonic() < deadline, changes
        time.sleep(0.05)
