"""A real Kafka for development, the demo and the tests, without Docker, Maven or a JDK on the machine.

`with DevKafka.start() as kafka: ... kafka.bootstrap ...`. Production never runs it.
"""

from __future__ import annotations

from .cluster import DevKafka
from .errors import DevKafkaError
from .node import Node

__all__ = ["DevKafka", "DevKafkaError", "Node"]
