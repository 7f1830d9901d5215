"""One idempotent producer a process: outbox rows, replies, offers, in the order they are given."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from .closing import FLUSH_S
from .config import MAX_MESSAGE_BYTES, LogConfig
from .connecting import connected
from .ports import Out
from .rights import on_topic, refused, why

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
POLL_S = 0.2
FULL_S = 0.01
PURGE_S = 5.0
"""How long a broken producer's records may take to be given back."""
ASK_S = 5.0
COMES_S = 60.0
TRY_S = 1.0
"""How often a topic is tried that refused a record which is kept."""
KEPT = 200_000
"""How many records may be under way to the cluster, or kept because it refuses them."""

Done = Callable[[str], None]


class KafkaOutgoing:
    """`send` from any thread; `done` from the producer's.

    `keeps`: a topic whose records wait for a right that is missing, in order, instead of being given up.
    """

    def __init__(self, config: LogConfig, keeps: str = "") -> None:
        self._config = config
        self._keeps = keeps
        self._kept: set[int] = set()
        """Records that were refused, or came behind one."""
        self._missing = ""
        """Which right is missing, while records are kept."""
        self._tried: int | None = None
        """The one of them that was sent again, to learn whether the right is back."""
        self._try_at = 0.0
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[Out, Done]] = {}
        """Records that are not acknowledged, in the order they were given."""
        self._again: list[int] = []
        self._unknown: dict[int, float] = {}
        """Since when a record's partition has been unknown."""
        self._broken = False
        self._refused: KafkaError | None = None
        """Why a broken producer was not let in; None of one that another one can go on for."""
        self._stopped = threading.Event()
        self._producer = connected(self._new(), config.topic("commands"))
        self._thread = threading.Thread(target=self._serve, name="outgoing", daemon=True)
        self._thread.start()

    def _new(self) -> Producer:
        options = self._config.client(
            enable_idempotence=True,
            partitioner="murmur2_random",
            linger_ms=0,
            message_timeout_ms=0,
            # With more, a record whose request a leader that is just elected refuses may be told as written, and is not
            # (docs/adr/0042): a broker takes any first sequence number, so the next request was in order.
            max_in_flight=1,
            message_max_bytes=MAX_MESSAGE_BYTES,
            topic_metadata_propagation_max_ms=3_000,
            queue_buffering_max_messages=KEPT,
        )
        return Producer({**options, "error_cb": self._trouble})

    def send(self, record: Out, done: Done) -> None:
        """Queue a record; waits only while the producer's own queue is full."""
        number = next(self._numbers)
        while True:
            with self._lock:
                self._waiting[number] = (record, done)
                if self._keep(number) if self._missing and record.topic == self._keeps else self._produce(number):
                    return
                del self._waiting[number]
            time.sleep(FULL_S)

    def refused(self) -> str:
        """Which right is missing for what is kept until it is there; "" if nothing is kept."""
        return self._missing

    def _produce(self, number: int, met: bool = False) -> bool:
        """Hand one of the waiting to the producer. False: it has no room. `met`: its partition was just asked for."""
        record, _ = self._waiting[number]
        try:
            self._producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                on_delivery=partial(self._delivered, number),
                headers=list(record.headers) or None,
            )
        except BufferError:
            return False
        except KafkaException as error:
            if error.args[0].code() == KafkaError._FATAL:
                self._broken = True
            elif not met and error.args[0].code() == KafkaError._UNKNOWN_PARTITION and self._grew(record):
                return self._produce(number, met=True)
            elif error.args[0].code() == KafkaError._UNKNOWN_PARTITION and self._may_come(number, record):
                self._again.append(number)
            else:
                self._fail(number, error.args[0])
        return True

    def _why(self, record: Out, error: KafkaError) -> str:
        return why(self._config, error, on_topic("Write", record.topic))

    def _grew(self, record: Out) -> bool:
        """Whether the partition is there after all: the producer learns of new ones only every few minutes."""
        try:
            topics = self._producer.list_topics(record.topic, timeout=ASK_S).topics
        except KafkaException:
            return False
        return record.partition in topics[record.topic].partitions

    def _may_come(self, number: int, record: Out) -> bool:
        """A command for a partition that this broker does not know yet: `topics grow` was told of it by another one."""
        first = self._unknown.setdefault(number, time.monotonic())
        return record.topic == self._config.topic("commands") and time.monotonic() < first + COMES_S

    def _fail(self, number: int, error: KafkaError) -> None:
        """It can never be sent; or, if it is one to keep, not before the right is back."""
        waiting = self._waiting.get(number)
        if waiting is None:
            return
        reason = self._why(waiting[0], error)
        if waiting[0].topic != self._keeps or not refused(error):
            self._finish(number, reason)
            return
        with self._lock:
            if not self._missing:
                log.error("kept until it may be sent: %s", reason)
            self._missing = reason
            self._kept.add(number)
            self._tried, self._try_at = None, time.monotonic() + TRY_S

    def _keep(self, number: int) -> bool:
        """Behind those that were refused. False: there are too many."""
        if len(self._kept) >= KEPT:
            return False
        self._kept.add(number)
        return True

    def _try(self) -> None:
        """Send the first of those that are kept again; the others stay behind it."""
        with self._lock:
            if self._tried is not None:
                return
            if not self._kept:
                self._missing = ""
            elif time.monotonic() >= self._try_at:
                self._tried = first = min(self._kept)
                self._kept.discard(first)
                if not self._produce(first):
                    self._kept.add(first)
                    self._tried = None

    def _let_go(self) -> None:
        """The right is back. What the producer has no room for is kept, and so is what comes behind it."""
        missing, self._missing = self._missing, ""
        for number in sorted(self._kept):
            self._kept.discard(number)
            if not self._produce(number):
                self._kept.add(number)
                self._missing = missing
            if self._missing:
                return
        log.info("%s: it can be sent to again", self._keeps)

    def _finish(self, number: int, reason: str) -> None:
        self._unknown.pop(number, None)
        if number == self._tried:
            with self._lock:
                self._tried = None
                self._let_go()
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting[1](reason)

    def _delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._finish(number, "")
        elif error.code() in NEVER:
            self._fail(number, error)
        else:
            self._again.append(number)

    def _trouble(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._broken = True
            if refused(error):
                self._refused = error
            else:
                log.warning("outgoing: %s; another producer goes on", error.str())

    def _serve(self) -> None:
        while not self._stopped.is_set():
            self.serve_once(POLL_S)

    def serve_once(self, wait_s: float) -> None:
        """Serve acknowledgements for up to `wait_s`, then mend what broke; the producer's own thread calls it."""
        self._polled(self._producer, wait_s)
        if self._broken:
            self._replace()
        elif self._again:
            self._send_again()
        if self._missing:
            self._try()

    def _polled(self, producer: Producer, wait_s: float) -> None:
        """Serve callbacks. A fatal error is raised by whichever call meets it first, and told to no callback."""
        try:
            producer.poll(wait_s)
        except KafkaException as error:
            self._trouble(error.args[0])

    def _replace(self) -> None:
        """A fatal error ends a producer, not the records: what is not acknowledged goes through a new one, in order.

        Unless a broker did not let it begin: who may write to no topic at all may not be idempotent either, and each
        record is refused.
        """
        with self._lock:
            self._producer.purge()
            with contextlib.suppress(KafkaException):
                self._producer.flush(PURGE_S)
            self._broken = False
            refusal, self._refused = self._refused, None
            self._producer = self._new()
            self._tried = None
            self._kept.clear()
            if refusal is not None:
                for number in list(self._waiting):
                    self._fail(number, refusal)
            self._again = [number for number in self._waiting if number not in self._kept]
        self._send_again()

    def _send_again(self) -> None:
        with self._lock:
            again, self._again = sorted(set(self._again) & self._waiting.keys()), []
            for at, number in enumerate(again):
                if self._missing and number != self._tried and self._waiting[number][0].topic == self._keeps:
                    self._kept.add(number)
                elif not self._produce(number):
                    self._again += again[at:]
                    return

    def close(self) -> None:
        """Let what was queued go, for a few seconds, and end. What was not acknowledged is told: it may have gone."""
        with contextlib.suppress(KafkaException):
            self._producer.flush(FLUSH_S)
        self._stopped.set()
        self._thread.join()
        if self._waiting:
            log.warning(
                "%d records were not acknowledged: whoever needs them sends, or asks, again", len(self._waiting)
            )
        self._producer.purge()
