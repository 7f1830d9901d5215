"""A cluster of three brokers whose nodes are ended and started by what they do: lead a partition, coordinate an id."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orchestrator.devkafka import DevKafka, Node

HEALS_WITHIN_S = 120.0


class Cluster:
    """Three nodes, and what the topics' metadata say of them."""

    def __init__(self, kafka: DevKafka) -> None:
        self.kafka = kafka
        self._admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def node(self, number: int) -> Node:
        """By its broker id."""
        return next(node for node in self.kafka.nodes if node.node_id == number)

    def leader(self, topic: str, partition: int = 0) -> int:
        """The id of the broker that leads a partition; -1: nobody does."""
        return int(self._admin.list_topics(topic, timeout=20).topics[topic].partitions[partition].leader)

    def coordinator(self, topic: str, name: str) -> int:
        """The broker that coordinates a transactional id or a group: the leader of its partition of Kafka's topic."""
        found = self._admin.list_topics(topic, timeout=20).topics[topic].partitions
        return int(found[(java_hash(name) & 0x7FFFFFFF) % len(found)].leader)

    def in_sync(self, topic: str, partition: int = 0) -> set[int]:
        """The ids of a partition's replicas that are in sync."""
        return set(self._admin.list_topics(topic, timeout=20).topics[topic].partitions[partition].isrs)

    def heal(self) -> None:
        """Wait until every node is there and every replica of every partition is in sync."""
        self.kafka.wait_ready()
        until(self._whole, "every replica is in sync")

    def _whole(self) -> bool:
        topics = self._admin.list_topics(timeout=20).topics.values()
        parts = [part for topic in topics for part in topic.partitions.values()]
        return all(set(part.isrs) == set(part.replicas) and part.leader >= 0 for part in parts)


def until(holds: Callable[[], bool], what: str, within_s: float = HEALS_WITHIN_S) -> None:
    """Wait for a cluster to be as wanted, however often it does not answer meanwhile."""
    deadline = time.monotonic() + within_s
    while True:
        with suppress(KafkaException):
            if holds():
                return
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.1)


def java_hash(text: str) -> int:
    """`String.hashCode`, by which Kafka chooses a coordinator."""
    found = 0
    for letter in text:
        found = (31 * found + ord(letter)) & 0xFFFFFFFF
    return found


def restart(nodes: Iterable[Node]) -> None:
    """Start nodes that have ended."""
    for node in nodes:
        node.start()
