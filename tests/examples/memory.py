"""An application with its engine and a caller, all in this process, on the log in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator import Orchestrator
from orchestrator.client.blocking import BlockingClient
from orchestrator.codec.records import Codec
from orchestrator.core.values import ReplyTo
from orchestrator.engine.run import Engine
from orchestrator.log.ports import Out
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.store.memory_store import MemoryStore
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, Reader, create_topics
from orchestrator.worker.threads import ThreadExecutor

PARTITIONS = 2


class MemoryTransport:
    """A caller's connection to a cluster in memory (`Transport`)."""

    reply_to: ReplyTo
    partitions = PARTITIONS

    def __init__(self, cluster: MemoryCluster, app: str) -> None:
        self._cluster = cluster
        self._app = app
        self.reply_to = ReplyTo(f"{app}.replies", 0)

    def open(self, on_reply: Callable[[bytes], None]) -> None:
        """See `Transport.open`."""
        self._reader = Reader(self._cluster, self.reply_to.topic, "replies")
        self._reader.follow(0, 0, lambda wires: [on_reply(wire.value) for wire in wires] and None)

    def send(self, partition: int, key: bytes, value: bytes, done: Callable[[str], None]) -> None:
        """See `Transport.send`."""
        done(self._cluster.send(Out(f"{self._app}.commands", partition, key, value)))

    def close(self) -> None:
        """See `Transport.close`."""
        self._reader.close()


@contextmanager
def running(app: Orchestrator) -> Iterator[tuple[BlockingClient, MemoryCluster]]:
    """A client of `app`, whose engine runs for as long as the block; steps run in threads."""
    cluster = MemoryCluster()
    create_topics(cluster, app.name, PARTITIONS)
    stores: dict[int, MemoryStore] = {}

    def open_store(number: int, codec: Codec) -> MemoryStore:
        return stores.setdefault(number, MemoryStore(codec))

    engine = Engine(
        MemoryLog(cluster, app.name, MemoryGroup(PARTITIONS)),
        app.registry,
        lambda report, freed: ThreadExecutor(app, ExecutorOptions(freed=freed), report),
        open_store,
    )
    engine.start()
    try:
        with BlockingClient.connect(app, transport=MemoryTransport(cluster, app.name)) as client:
            yield client, cluster
    finally:
        engine.stop(5.0)
