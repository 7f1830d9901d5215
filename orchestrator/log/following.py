"""A consumer assigned by hand, one thread, a sink for each followed partition: how the tail and the inputs read."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import EarliestSpec, LatestSpec

from ..errors import ConfigurationError
from .config import LogConfig
from .connecting import connected, known
from .ports import Wire
from .rights import allows, asked, lacks, on_topic, why

log = logging.getLogger(__name__)

SLICE = 1_000
ASK_S = 10.0
POLL_S = 0.05
LOOK_S = 1.0
"""How often a reader that is refused asks whether it still is."""

_ENDS = (EarliestSpec(), LatestSpec())  # type: ignore[no-untyped-call]

Sink = Callable[[Sequence[Wire]], None]
Lost = Callable[[int], None]


class _Followed(NamedTuple):
    sink: Sink
    lost: Lost | None
    offset: int


class FollowingReader:
    """Follows partitions of one topic. `consume(n, timeout)` waits for n: it polls one, then drains without waiting.

    The client takes one call at a time, and a thread that polls in a loop starves the others: every call is the reader
    thread's own, requested through a queue and carried out between two polls. What is wanted changes at once: when
    `follow` or `unfollow` returns, no earlier sink is called any more. A sink may not wait for a caller of these two.
    """

    def __init__(self, config: LogConfig, topic: str, name: str, **special: Any) -> None:
        self._config = config
        self._topic = topic
        self._refused = ""
        self._look_at = 0.0
        self._answer: Future[Any] | None = None
        self._consumer = connected(Consumer(config.consumer(**special)), topic)
        self._admin = connected(AdminClient(config.client()), topic)
        self._delivering = threading.RLock()
        self._wanted: dict[int, _Followed] = {}
        self._reached: dict[int, int] = {}
        self._followed: dict[int, _Followed] = {}
        """What the consumer is assigned; the reader thread's own."""
        self._requests: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._known: dict[Consumer | AdminClient, int] = {}
        """How many partitions each client has heard of."""
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def follow(self, partition: int, offset: int, sink: Sink, lost: Lost | None = None) -> None:
        """Deliver records from `offset` on. It begins unpaused."""
        followed = _Followed(sink, lost, offset)
        with self._delivering:
            self._wanted[partition] = followed
            self._reached[partition] = offset
        self._requests.put(partial(self._follow, partition, followed))

    def unfollow(self, partition: int) -> None:
        """Deliver no more of a partition."""
        with self._delivering:
            self._wanted.pop(partition, None)
            self._reached.pop(partition, None)
        self._requests.put(partial(self._unfollow, partition))

    def reached(self, partition: int) -> int:
        """Below this offset all was delivered; past what is never delivered only if the partition's end is told."""
        return self._reached.get(partition, 0)

    def refused(self) -> str:
        """Why a broker gives nothing, for want of a right; "" while it gives what there is, or nothing is followed."""
        return self._refused if self._wanted else ""

    def pause(self, partition: int) -> None:
        """Its sink is full."""
        self._requests.put(partial(self._if_followed, self._consumer.pause, partition))

    def resume(self, partition: int) -> None:
        """Its sink has room."""
        self._requests.put(partial(self._if_followed, self._consumer.resume, partition))

    def _follow(self, partition: int, followed: _Followed) -> None:
        self._unfollow(partition)
        if self._wanted.get(partition) is followed:
            self._followed[partition] = followed
            self._introduce(self._consumer, partition)
            self._consumer.incremental_assign([TopicPartition(self._topic, partition, followed.offset)])
            # A pause outlives its assignment.
            self._consumer.resume([TopicPartition(self._topic, partition)])

    def _introduce(self, client: Consumer | AdminClient, partition: int) -> None:
        """A client learns of new partitions, and of new leaders, only every few minutes, unless it asks."""
        if partition >= self._known.get(client, 0):
            with contextlib.suppress(KafkaException):
                topics = client.list_topics(self._topic, timeout=ASK_S).topics
                self._known[client] = len(topics[self._topic].partitions)

    def _unfollow(self, partition: int) -> None:
        if self._followed.pop(partition, None) is not None:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def _if_followed(self, act: Callable[[list[TopicPartition]], object], partition: int) -> None:
        if partition in self._followed:
            act([TopicPartition(self._topic, partition)])

    def bounds(self, partition: int) -> tuple[int, int]:
        """(start, last stable offset) of the partition, asked from the broker now: nobody here reads further.

        Raises ConfigurationError when it cannot be had.
        """
        # Not by the consumer's own query: two threads in it at once were seen to wait for its whole time-out.
        place = TopicPartition(self._topic, partition)
        self._introduce(self._admin, partition)
        asked = {"isolation_level": IsolationLevel.READ_COMMITTED, "request_timeout": ASK_S}
        try:
            start, end = (
                known(self._admin.list_offsets({place: spec}, **asked)[place].result().offset) for spec in _ENDS
            )
        except KafkaException as error:
            # Who leads the partition is not asked again after a refusal: after a restart of all brokers the client was
            # refused for its old leader epoch for minutes.
            self._known.pop(self._admin, None)
            said = why(self._config, error.args[0], on_topic("Read", self._topic))
            raise ConfigurationError(f"{self._topic}/{partition}: {said}") from error
        return start, end

    def close(self) -> None:
        """End the thread and the consumer; both may wait for a broker."""
        self._stopped = True
        self._requests.put(lambda: None)
        self._thread.join()
        self._consumer.close()

    def _serve(self) -> None:
        while not self._stopped:
            while not (self._followed and self._requests.empty()):
                self._requests.get()()
                if self._ending():
                    return
            first = self._consumer.poll(POLL_S)
            if first is not None:
                self._deliver([first, *self._consumer.consume(SLICE, 0)])
            if self._refused:
                self._look()

    def _look(self) -> None:
        """Ask whether the right is back: who has read all there is hears of a refusal, and never that it is over."""
        if self._answer is None and time.monotonic() >= self._look_at:
            self._answer = asked(self._admin, self._topic)
        elif self._answer is not None and self._answer.done():
            if allows(self._answer, "Read"):
                self._note_refused("")
            self._answer, self._look_at = None, time.monotonic() + LOOK_S

    def _ending(self) -> bool:
        return self._stopped

    def _deliver(self, messages: list[Message]) -> None:
        by_partition: dict[int, list[Wire]] = {}
        ends: list[tuple[int, int]] = []
        for message in messages:
            error, partition = message.error(), message.partition()
            if error is None:
                assert partition is not None
                by_partition.setdefault(partition, []).append(wire(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                ends.append((partition or 0, message.offset() or 0))
            else:
                self._problem(message, error)
        if by_partition:
            self._note_refused("")
        for partition, wires in by_partition.items():
            followed = self._followed.get(partition)
            if followed is not None:
                self._tell(partition, followed, partial(followed.sink, wires))
                ends.append((partition, wires[-1].offset + 1))
        for partition, offset in ends:
            followed = self._followed.get(partition)
            if followed is not None:
                self._tell(partition, followed, partial(self._came_to, partition, offset))

    def _came_to(self, partition: int, offset: int) -> None:
        self._reached[partition] = max(self._reached[partition], offset)

    def _tell(self, partition: int, followed: _Followed, tell: Callable[[], None]) -> None:
        with self._delivering:
            if self._wanted.get(partition) is followed:
                tell()

    def _problem(self, message: Message, error: KafkaError) -> None:
        partition = message.partition()
        followed = self._followed.get(partition) if partition is not None else None
        gone = error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
        if gone and followed is not None and followed.lost is not None and partition is not None:
            self._lost(partition, followed, followed.lost)
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            self._note_refused(lacks(self._config, on_topic("Read", self._topic)))
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            # This consumer is assigned by hand: what it asks of the group, nothing here needs.
            log.debug("%s: %s", self._topic, error.str())
        elif error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            log.warning("%s/%s: %s", self._topic, partition, error.str())

    def _note_refused(self, sentence: str) -> None:
        """Said once, and again when it came back in between."""
        if sentence and not self._refused:
            log.error("nothing can be read: %s", sentence)
        elif self._refused and not sentence:
            log.info("%s: it can be read again", self._topic)
        self._refused = sentence

    def _lost(self, partition: int, followed: _Followed, tell: Lost) -> None:
        try:
            start, _ = self.bounds(partition)
        except ConfigurationError as error:
            log.warning("%s: following it again", error)
            self._requests.put(partial(self._follow, partition, followed))
        else:
            self._tell(partition, followed, partial(tell, start))


_new: Callable[[type[Wire], tuple[Any, ...]], Wire] = tuple.__new__
"""Without the call of a function that a named tuple's own constructor is: an audit makes millions."""


def wire(message: Message) -> Wire:
    """A librdkafka message as a raw record."""
    headers: Any = message.headers()
    given = tuple((name, value if isinstance(value, bytes) else b"") for name, value in headers) if headers else ()
    stamp = message.timestamp()[1]
    key, value = message.key() or b"", message.value() or b""
    return _new(
        Wire, (message.topic() or "", message.partition() or 0, message.offset() or 0, stamp, key, value, given)
    )
