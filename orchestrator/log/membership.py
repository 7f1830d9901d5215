"""Which partitions are mine: a group (classic or KIP-848), or a static map.

Membership decides who tries; claims decide who owns.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from .closing import LEAVE_S
from .config import LogConfig
from .rights import Need, lacks, on_topic, refused

log = logging.getLogger(__name__)

RELEASE_S = 40.0
COMMIT_EVERY_S = 1.0
POLL_S = 0.25
GIVE_BACK_S = 0.02
"""A poll that ran a callback waits on: others wait for what is given back."""
ASK_AGAIN_S = 2.0
"""How long who has no right to be a member waits before it asks again."""
NO_RIGHT = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)

Assigned = Callable[[Sequence[int]], None]
Revoked = Callable[[Sequence[int], bool], None]


def _ended(thread: threading.Thread) -> None:
    """Wait for a member's end, which asks the group's coordinator: with none it is left to the end of the process."""
    thread.join(LEAVE_S)
    if thread.is_alive():
        log.warning("the group was not left within %g s: others wait until this member's session is over", LEAVE_S)


class _Offsets:
    """Group offsets for tools and witnesses.

    The newest of each partition, once a second, never ahead of a proven footer.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._lock = threading.Lock()
        self._newest: dict[int, TopicPartition] = {}
        self._next = 0.0

    def put(self, partition: int, offset: int, metadata: str) -> None:
        position = TopicPartition(self._topic, partition, offset, metadata=metadata)
        with self._lock:
            self._newest[partition] = position

    def commit(self, consumer: Consumer, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + COMMIT_EVERY_S
        with self._lock:
            offsets, self._newest = list(self._newest.values()), {}
        if not offsets:
            return
        try:
            if now:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets)
        except KafkaException as error:
            log.debug("group offsets not committed: %s", error)


class GroupMembership:
    """A consumer that is subscribed, paused everywhere, and polled by a thread of its own."""

    def __init__(self, config: LogConfig) -> None:
        self._config = config
        self._topic = config.topic("commands")
        self._offsets = _Offsets(self._topic)
        self._changed = threading.Condition()
        self._releasing: set[int] = set()
        self._stopped = False
        self._polled_at = time.monotonic()
        self._thawed = 2
        self._fatal = False
        self._refused = False
        self._dismissed = False
        self._mine: set[int] = set()
        self._consumer = Consumer(self._options())
        self._thread = threading.Thread(target=self._serve, name="membership", daemon=True)

    def _options(self) -> dict[str, object]:
        config = self._config
        # New partitions (`topics grow`) are found by the group at most so long after.
        special: dict[str, object] = {"max_poll_interval_ms": 60_000, "topic_metadata_refresh_interval_ms": 10_000}
        if config.group_protocol == "consumer":
            # Session and heartbeat are the group's and the broker's settings under KIP-848.
            special["group_protocol"] = "consumer"
        else:
            special["session_timeout_ms"] = int(config.session_timeout_s * 1000)
            special["heartbeat_interval_ms"] = 500
            special["partition_assignment_strategy"] = "range"
        if config.instance_id:
            special["group_instance_id"] = config.instance_id
        # Positions come from footers; the group's are for tools, and a missing one must not stop the member.
        return config.consumer(**special, auto_offset_reset="latest")

    def _trouble(self, error: KafkaError) -> None:
        # A fatal one (another member has our instance id) is told once and never passes: this process is no member.
        fatal = error.code() == KafkaError._FATAL  # noqa: SLF001
        # Under KIP-848 a member that is refused is none any more: librdkafka calls that fatal, and keeps the code.
        self._dismissed = fatal and NO_RIGHT.str() in error.str()
        if refused(error) or self._dismissed:
            self._note_refused(NO_RIGHT if self._dismissed else error)
            return
        self._fatal = self._fatal or fatal
        log.log(logging.ERROR if fatal else logging.INFO, "membership: %s", error.str())

    def _note_refused(self, error: KafkaError) -> None:
        """Asked again and again until the right is there, and said once."""
        if not self._refused:
            group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
            need = Need("Read", "group", self._config.group) if group else on_topic("Read", self._topic)
            log.error("membership: no partition can be had: %s", lacks(self._config, need))
        self._refused = True

    def start(self, assigned: Assigned, revoked: Revoked) -> None:
        """Join the group; callbacks come from the membership's thread."""
        self._assigned, self._revoked = assigned, revoked
        self._subscribe()
        self._thread.start()

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def released(self, partition: int) -> None:
        """The partition's thread is done with it."""
        with self._changed:
            self._releasing.discard(partition)
            self._changed.notify_all()

    def commit_offset(self, partition: int, offset: int, metadata: str) -> None:
        """Keep the newest; the membership's thread commits."""
        self._offsets.put(partition, offset, metadata)

    def healthy(self) -> bool:
        """Whether the thread polls; after a freeze of half a session only once it has polled twice again."""
        quiet = time.monotonic() - self._polled_at
        # Who has partitions is a member still: a heartbeat that was refused may have been followed by one that was not.
        polls = self._thread.is_alive() and not self._fatal and (not self._refused or bool(self._mine))
        return polls and quiet < self._config.session_timeout_s / 2 and self._thawed >= 2

    def stop(self) -> None:
        """Leave the group at once, so that others need not wait for the session's end; for seconds, if it is gone."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            _ended(self._thread)

    def _serve(self) -> None:
        try:
            while not self._stopped:
                message = self._consumer.poll(POLL_S)
                error = message.error() if message is not None else None
                if error is not None:
                    self._trouble(error)
                if self._dismissed:
                    self._ask_again()
                self._note_poll()
                self._offsets.commit(self._consumer)
        finally:
            self._offsets.commit(self._consumer, now=True)
            self._leave()

    def _leave(self) -> None:
        """Give everything back, then close.

        Not the other way round: a group that closes drops what it is asked without an answer (librdkafka's
        `rd_kafka_cgrp_op_serve`), and after a rebalance's callback confluent-kafka asks it with the GIL held: should
        both meet, no thread of the process runs any more.
        """
        # A static member of the classic protocol would leave the group for good, and not just until it is back.
        if self._config.instance_id and self._config.group_protocol == "classic":
            self._consumer.close()
            return
        # One that is no member any more (a fatal error) has nothing to give back.
        with suppress(KafkaException):
            self._consumer.unsubscribe()
            until = time.monotonic() + LEAVE_S
            while self._mine and time.monotonic() < until:
                self._consumer.poll(GIVE_BACK_S)
        self._consumer.close()

    def _ask_again(self) -> None:
        """By another member, after a while. What this one had the group gives away, and nobody else says so."""
        lost, self._mine = sorted(self._mine), set()
        self._revoked(lost, True)
        self._consumer.close()
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, ASK_AGAIN_S)
        self._dismissed = False
        self._consumer = Consumer(self._options())
        self._subscribe()
        self._polled_at = time.monotonic()

    def _note_poll(self) -> None:
        now = time.monotonic()
        if now - self._polled_at > self._config.session_timeout_s / 2:
            log.warning("this process stood still for %.1f s: heartbeats first, then claims", now - self._polled_at)
            self._thawed = 0
        else:
            self._thawed += 1
        self._polled_at = now

    # -- callbacks, inside poll --------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._config.group_protocol == "consumer":
            consumer.incremental_assign(partitions)
        else:
            consumer.assign(partitions)
        self._refused = False
        if partitions:
            consumer.pause(partitions)
            self._mine.update(one.partition for one in partitions)
            self._assigned(sorted(one.partition for one in partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = sorted(one.partition for one in partitions)
        with self._changed:
            self._releasing.update(numbers)
        self._mine.difference_update(numbers)
        self._revoked(numbers, False)
        with self._changed:
            self._changed.wait_for(lambda: not self._releasing & set(numbers), RELEASE_S)
        self._offsets.commit(consumer, now=True)
        self._polled_at = time.monotonic()

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = sorted(one.partition for one in partitions)
        self._mine.difference_update(numbers)
        self._revoked(numbers, True)


class StaticMembership:
    """A map from outside says which partitions are mine; there is no group, and fail-over is a restart in place."""

    def __init__(self, config: LogConfig) -> None:
        self._config = config
        self._offsets = _Offsets(config.topic("commands"))
        self._consumer = Consumer(config.consumer())
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="membership", daemon=True)

    def start(self, assigned: Assigned, revoked: Revoked) -> None:
        """Everything of the map is assigned at once."""
        self._thread.start()
        assigned(self._config.assignment)

    def released(self, partition: int) -> None:
        """Nobody else waits for it."""

    def commit_offset(self, partition: int, offset: int, metadata: str) -> None:
        """Keep the newest; a thread commits."""
        self._offsets.put(partition, offset, metadata)

    def healthy(self) -> bool:
        """Always: there is nothing to lose."""
        return not self._stopped.is_set()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread.is_alive():
            _ended(self._thread)

    def _serve(self) -> None:
        while not self._stopped.wait(COMMIT_EVERY_S):
            self._offsets.commit(self._consumer)
        self._offsets.commit(self._consumer, now=True)
        self._consumer.close()
