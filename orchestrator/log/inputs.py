"""The commands partitions, read from the footer's position on.

A position below the log's start is a loss and is told.
"""

from __future__ import annotations

from .config import LogConfig
from .following import FollowingReader


class KafkaInputs(FollowingReader):
    """Commands of owned partitions."""

    def __init__(self, config: LogConfig) -> None:
        # The end of the partition is told: an offset of a marker is never delivered, and yet it was read.
        super().__init__(config, config.topic("commands"), "inputs", enable_partition_eof=True)
