"""A broker that is also reached through the proxy, and topics on it."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from orchestrator.devkafka import DevKafka
from tests.faults.kafka_proxy import KafkaProxy

WAIT_S = 30
SETTLE_S = 5


@dataclass(frozen=True)
class Proxied:
    """Bootstrap servers past the proxy and through it."""

    direct: str
    proxied: str
    proxy: KafkaProxy

    def name(self, kind: str) -> str:
        """A name that nobody else has."""
        return f"{kind}-{uuid.uuid4().hex[:8]}"

    def topic(self) -> str:
        """A new topic of one partition."""
        name = self.name("hole")
        admin = AdminClient({"bootstrap.servers": self.direct})
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(WAIT_S)
        return name

    def wait_visible(self, topic: str, value: str) -> bool:
        """Whether a record becomes visible within a few seconds: it need not, under a loop that shuts the hole."""
        end = time.monotonic() + SETTLE_S
        while value not in self.visible(topic):
            if time.monotonic() > end:
                return False
        return True

    def visible(self, topic: str) -> list[str]:
        """Every record that a read_committed reader sees, to the stable end at the time of the call."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.direct,
                "group.id": topic,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
            }
        )
        found: list[str] = []
        try:
            consumer.assign([TopicPartition(topic, 0, 0)])
            while (message := consumer.poll(WAIT_S)) is not None:
                if message.error():
                    return found
                found.append(message.value().decode())
        finally:
            consumer.close()
        raise AssertionError(f"no end of {topic} within {WAIT_S} s")


@contextlib.contextmanager
def proxied_broker() -> Iterator[Proxied]:
    """One node with a proxy before its second listener."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    broker = DevKafka.start(nodes=1, proxy_port=port)
    try:
        with KafkaProxy(broker.nodes[0].proxied_port, port=port) as proxy:
            yield Proxied(broker.bootstrap, f"127.0.0.1:{port}", proxy)
    finally:
        broker.stop()
