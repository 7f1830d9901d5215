"""A caller's connection to a cluster in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.values import ReplyTo
from ..log.ports import Headers, Out, Wire
from .memory_cluster import MemoryCluster
from .memory_log import Reader


class MemoryTransport:
    """`orchestrator.client.transport.Transport` over memory."""

    def __init__(self, cluster: MemoryCluster, app: str, partitions: int) -> None:
        self.partitions = partitions
        self.reply_to = ReplyTo(f"{app}.replies", 0)
        self._cluster = cluster
        self._app = app
        self._reader: Reader | None = None

    def open(self, on_reply: Callable[[bytes], None]) -> None:
        """Hear replies from now on."""

        def hear(wires: Sequence[Wire]) -> None:
            for wire in wires:
                on_reply(wire.value)

        self._reader = Reader(self._cluster, self.reply_to.topic, "replies")
        self._reader.follow(0, self._cluster.partition(self.reply_to.topic, 0).end, hear)

    def send(
        self, partition: int, key: bytes, value: bytes, done: Callable[[str], None], headers: Headers = ()
    ) -> None:
        """Append a command."""
        done(self._cluster.send(Out(f"{self._app}.commands", partition, key, value, headers)))

    def close(self) -> None:
        """End the reader."""
        if self._reader is not None:
            self._reader.close()
