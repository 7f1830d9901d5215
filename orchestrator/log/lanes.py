"""Transactional producers of one partition: begin, commit, and nothing else.

An epoch never sends an abort (design.md §4).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Producer

from ..errors import KafkaUnavailable
from ..failpoints import failpoint, failpoint_beside
from .config import LogConfig
from .connecting import connected
from .ports import Fenced
from .rights import Need, lacks, on_topic, refused

log = logging.getLogger(__name__)

TRANSACTION_S = 15
INIT_S = 60.0


class KafkaLanes:
    """Lanes `<app>.<p>.<letter>`, used in turn: the next one need not wait for the last one's markers."""

    def __init__(self, config: LogConfig, partition: int) -> None:
        self.names = config.lane_names(partition)
        self._config = config
        self._topic = config.topic("events")
        self._partition = partition
        self._producers: dict[str, Producer] = {}
        self._turn = 0

    def init(self, extra: Sequence[str] = ()) -> None:
        """The one call that is retried: it settles whatever an earlier owner, or this one, left open."""
        self.close()
        # A claim goes through the first lane, whichever lane was next before.
        self._turn = 0
        for name in (*self.names, *extra):
            self._producers[name] = self._initialised(name)
            if name == self.names[0]:
                failpoint("K21")
        for name in extra:
            self._producers.pop(name, None)

    def init_last(self) -> None:
        self._producers[self._name()] = self._initialised(self._name())

    def _options(self, name: str) -> dict[str, object]:
        return self._config.client(
            transactional_id=name,
            transaction_timeout_ms=TRANSACTION_S * 1000,
            linger_ms=0,
            retry_backoff_ms=1,
            retry_backoff_max_ms=5,
            acks="all",
            compression_type="none",
            message_max_bytes=8_000_000,
        )

    def _initialised(self, name: str) -> Producer:
        deadline = time.monotonic() + INIT_S
        producer = self._new(name)
        while True:
            try:
                producer.init_transactions(TRANSACTION_S)
                return producer
            except KafkaException as error:
                self._check_right(error, name)
                if time.monotonic() > deadline:
                    raise Fenced(f"lane {name} cannot be initialised: {_say(error)}") from error
                log.info("lane %s: %s; initialising again", name, _say(error))
                time.sleep(0.05)
                if error.args[0].fatal():
                    # It would say the same for ever: another `init_transactions` of this id came in between.
                    producer = self._new(name)

    def _new(self, name: str) -> Producer:
        return connected(Producer(self._options(name)), self._topic)

    def begin(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        producer = self._producer()
        try:
            producer.begin_transaction()
            failpoint("K3")
            produce, topic, partition = producer.produce, self._topic, self._partition
            *before, last = records
            for at, (key, value) in enumerate(before):
                produce(topic, value, key, partition)
                if not at:
                    failpoint("K6")
            if before:
                failpoint("K8")
            key, value = last
            produce(topic, value, key, partition)
            left = producer.flush(TRANSACTION_S)
        except (KafkaException, BufferError) as error:
            self._check_right(error, self._name())
            raise Fenced(f"lane {self._name()}: {_say(error)}") from error
        if left:
            raise Fenced(f"lane {self._name()}: {left} records were not acknowledged in {TRANSACTION_S} s")

    def commit(self) -> None:
        producer = self._producer()
        failpoint_beside("K10")
        try:
            producer.commit_transaction(TRANSACTION_S)
        except KafkaException as error:
            self._check_right(error, self._name())
            raise Fenced(f"lane {self._name()}: {_say(error)}") from error
        self._turn += 1

    def _check_right(self, error: Exception, lane: str) -> None:
        """A broker that refuses goes on refusing: to claim again at once would help nobody. Raises KafkaUnavailable."""
        inner = error.args[0] if error.args else None
        if isinstance(inner, KafkaError) and refused(inner):
            of_lane = inner.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            need = Need("Write", "transactional id", lane) if of_lane else on_topic("Write", self._topic)
            raise KafkaUnavailable(lacks(self._config, need)) from error

    def _name(self) -> str:
        return self.names[self._turn % len(self.names)]

    def _producer(self) -> Producer:
        try:
            return self._producers[self._name()]
        except KeyError:
            raise Fenced(f"lane {self._name()} is closed") from None

    def close(self) -> None:
        for producer in self._producers.values():
            with contextlib.suppress(KafkaException):
                producer.purge()
        self._producers.clear()


def _say(error: Exception) -> str:
    inner = error.args[0] if error.args else None
    return f"{inner.name()}: {inner.str()}" if isinstance(inner, KafkaError) else str(error)
