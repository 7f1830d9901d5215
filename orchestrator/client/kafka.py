"""The caller's transport over Kafka."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.config import Settings
from orchestrator.core.values import ReplyTo
from orchestrator.errors import KafkaUnavailable
from orchestrator.log.client_io import ClientIo
from orchestrator.log.config import LogConfig
from orchestrator.log.ports import Headers


class KafkaTransport:
    """One caller's connection to the log of application `app` (`Transport`)."""

    def __init__(self, app: str, settings: Settings) -> None:
        self._config = LogConfig.of(settings, app)
        self._io: ClientIo | None = None

    @property
    def partitions(self) -> int:
        """See `Transport.partitions`."""
        return self._opened().partitions

    @property
    def reply_to(self) -> ReplyTo:
        """See `Transport.reply_to`."""
        io = self._opened()
        return ReplyTo(io.reply_topic, io.reply_partition)

    def open(self, on_reply: Callable[[bytes], None]) -> None:
        """See `Transport.open`."""
        self._io = ClientIo(self._config, on_reply)

    def send(
        self, partition: int, key: bytes, value: bytes, done: Callable[[str], None], headers: Headers = ()
    ) -> None:
        """See `Transport.send`."""
        self._opened().send(partition, key, value, done, headers)

    def close(self) -> None:
        """See `Transport.close`."""
        if self._io is not None:
            self._io.close()

    def _opened(self) -> ClientIo:
        if self._io is None:
            raise KafkaUnavailable("this client is not connected: use it inside `async with app.connect() as client`")
        return self._io
