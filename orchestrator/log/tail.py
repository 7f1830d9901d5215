"""The process's own read_committed tail of the events partitions it owns: what is not read back here is not proven."""

from __future__ import annotations

from .config import LogConfig
from .following import FollowingReader

QUEUED_KBYTES = 8_192
"""Fetched and not yet delivered, of all partitions together."""


class KafkaTail(FollowingReader):
    """Owned events partitions."""

    def __init__(self, config: LogConfig) -> None:
        super().__init__(config, config.topic("events"), "tail")


class KafkaStandby(FollowingReader):
    """Events partitions that others own: nobody waits for what is read here, and little of it is kept."""

    def __init__(self, config: LogConfig) -> None:
        bounds = {"queued_max_messages_kbytes": QUEUED_KBYTES, "enable_partition_eof": True}
        super().__init__(config, config.topic("events"), "standby-tail", **bounds)
