"""A client meets its broker before it is used."""

from __future__ import annotations

import contextlib
from typing import Any, TypeVar

from confluent_kafka import KafkaException

CONNECT_S = 5.0

Client = TypeVar("Client", bound=Any)


def connected(client: Client, topic: str) -> Client:
    """The client, connected if a broker answers within seconds; else as it is: its first use says what is wrong.

    What librdkafka does not find at once (a coordinator, a producer id, a controller) it looks for again half a second
    or more later. Seen with 2.16 on loopback: a first `init_transactions` 4 or 504 ms, a first idempotent record 15 or
    504, a first question of an admin client 2 or 3,002; the lower figures when it was connected.
    """
    with contextlib.suppress(KafkaException):
        # The first answer comes over the bootstrap connection, which is closed then; the second over the broker's own.
        client.list_topics(topic, timeout=CONNECT_S)
        client.list_topics(topic, timeout=CONNECT_S)
    return client
