"""What a caller needs from the log: send a command to a partition, hear replies on a partition of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from orchestrator.core.values import ReplyTo
from orchestrator.log.ports import Headers


class Transport(Protocol):
    """Kafka (`client/kafka.py`) and the in-memory log (`orchestrator.testing`) implement it."""

    @property
    def partitions(self) -> int:
        """How many partitions `<app>.commands` has. Known once open."""

    @property
    def reply_to(self) -> ReplyTo:
        """Where answers are to go. Known once open."""

    def open(self, on_reply: Callable[[bytes], None]) -> None:
        """Connect; returns when replies to whatever is sent from now on will be heard. May block.

        `on_reply` gets the value of every record of the reply partition, from any thread, also those meant for others.
        Raises KafkaUnavailable, ConfigurationError.
        """

    def send(
        self, partition: int, key: bytes, value: bytes, done: Callable[[str], None], headers: Headers = ()
    ) -> None:
        """Queue a command. `done("")` once the log has it, `done(reason)` when it never will; from any thread."""

    def close(self) -> None:
        """Let what was queued go, disconnect, and end every thread. May block."""
