"""How to reach an application's log.

Secrets of `options` never appear in a repr; librdkafka's own log goes to `logging`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config import Settings
from .connecting import LOGGER, Repeats

MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's own default of `max.message.bytes`: 1 MiB and a record's overhead."""
SOCKET_TIMEOUT_MS = 10_000
"""How long a broker may take to answer one request before another one is asked."""
LANE_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_librdkafka = logging.getLogger(LOGGER)
_librdkafka.addFilter(Repeats())


@dataclass(frozen=True)
class LogConfig:
    """An application's log. `options` are librdkafka's own (security above all), passed through to every client."""

    app: str
    bootstrap: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    lanes: int = 2
    group_protocol: str = "consumer"
    assignment: tuple[int, ...] = ()
    generation: int = 0
    session_timeout_s: float = 6.0
    instance_id: str = ""

    @classmethod
    def of(cls, settings: Settings, app: str) -> LogConfig:
        """From a process's settings."""
        options = dict(settings.kafka)
        return cls(
            app=app,
            bootstrap=settings.bootstrap,
            # Only the membership consumer may carry it: two members of one instance id fence each other.
            instance_id=options.pop("group.instance.id", ""),
            options=options,
            lanes=settings.lanes,
            group_protocol=settings.group_protocol,
            assignment=settings.assignment if settings.membership == "static" else (),
            generation=settings.generation,
            session_timeout_s=settings.session_timeout_s,
        )

    @property
    def group(self) -> str:
        """The engines' group."""
        return f"{self.app}.engine"

    def topic(self, name: str) -> str:
        """Full name of a topic of this application."""
        return f"{self.app}.{name}"

    def lane_names(self, partition: int) -> tuple[str, ...]:
        """Transactional ids of a partition's lanes, in their order."""
        return tuple(f"{self.app}.{partition}.{LANE_LETTERS[lane]}" for lane in range(self.lanes))

    def client(self, **special: Any) -> dict[str, Any]:
        """Options of one client; `special` with underscores for dots."""
        return {
            "bootstrap.servers": self.bootstrap,
            "logger": _librdkafka,
            "enable.metrics.push": False,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 1000,
            "socket.nagle.disable": True,
            # A broker that stands still keeps its connections: for a minute, by default, nobody looks elsewhere.
            "socket.timeout.ms": SOCKET_TIMEOUT_MS,
            **self.options,
            **{name.replace("_", "."): value for name, value in special.items()},
        }

    def consumer(self, **special: Any) -> dict[str, Any]:
        """Options of a consumer that is assigned by hand: read_committed, nothing committed, no silent reset."""
        return self.client(
            **{
                "group_id": self.group,
                "isolation_level": "read_committed",
                "enable_auto_commit": False,
                "enable_auto_offset_store": False,
                "auto_offset_reset": "error",
                "fetch_queue_backoff_ms": 10,
                "fetch_error_backoff_ms": 50,
                # A partition that is followed anew waits for the fetch that is under way: half a second by default.
                "fetch_wait_max_ms": 100,
                "queued_max_messages_kbytes": 16_384,
                **special,
            }
        )
