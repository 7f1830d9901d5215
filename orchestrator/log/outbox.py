"""One idempotent producer a process: outbox rows, replies, offers, in the order they are given."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from .config import LogConfig
from .ports import Out

log = logging.getLogger(__name__)

NEVER = {
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.INVALID_RECORD,
}
"""Errors that the next try would meet again."""


class KafkaOutgoing:
    """`send` from any thread; `done` from the producer's."""

    def __init__(self, config: LogConfig) -> None:
        self._producer = Producer(
            config.client(
                enable_idempotence=True,
                partitioner="murmur2_random",
                linger_ms=0,
                message_timeout_ms=0,
                topic_metadata_propagation_max_ms=3_000,
                queue_buffering_max_messages=200_000,
            )
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="outgoing", daemon=True)
        self._thread.start()

    def send(self, record: Out, done: Callable[[str], None]) -> None:
        """Queue a record; waits only while the producer's own queue is full."""
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=partial(self._delivered, record, done),
                    headers=list(record.headers) or None,
                )
                return
            except BufferError:
                self._stopped.wait(0.01)
            except KafkaException as error:
                done(error.args[0].str())
                return

    def _delivered(self, record: Out, done: Callable[[str], None], error: KafkaError | None, message: Message) -> None:
        if error is None:
            done("")
        elif error.code() in NEVER:
            done(error.str())
        elif not self._stopped.is_set():
            log.warning("%s: %s; sending again", record.topic, error.str())
            self.send(record, done)

    def _serve(self) -> None:
        while not self._stopped.is_set():
            self._producer.poll(0.2)

    def close(self) -> None:
        """Let what was queued go, for a few seconds, and end."""
        self._producer.flush(5)
        self._stopped.set()
        self._thread.join()
        self._producer.purge()
