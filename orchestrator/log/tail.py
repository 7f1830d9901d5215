"""The process's own read_committed tail of the events partitions it owns: what is not read back here is not proven."""

from __future__ import annotations

from .config import LogConfig
from .following import FollowingReader


class KafkaTail(FollowingReader):
    """Owned events partitions."""

    def __init__(self, config: LogConfig) -> None:
        super().__init__(config, config.topic("events"), "tail")
