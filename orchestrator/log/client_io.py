"""What callers and workers need.

A producer of commands, a reader of one reply partition, a member of a task queue's group.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ..config import Settings
from ..errors import ConfigurationError, KafkaUnavailable
from .closing import CLOSE_S, FLUSH_S, LEAVE_S, close_all
from .config import LogConfig
from .connecting import connected, described, made
from .outbox import KafkaOutgoing
from .ports import Headers, Out
from .rights import Need, check_topics_allow, lacks, on_topic, refused
from .topics import admin, unequal

log = logging.getLogger(__name__)

ASK_S = 15.0
ELSEWHERE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION)
"""The log of replies is not what it was: cut by an election, or made anew."""


class ClientIo:
    """One caller's connection: sends commands, hears one partition of the replies topic from its end on."""

    def __init__(self, config: LogConfig, on_reply: Callable[[bytes], None]) -> None:
        """Returns when replies to whatever is sent from now on will be heard.

        Raises KafkaUnavailable, ConfigurationError.
        """
        client = admin(config)
        check_topics_allow(config, client, {"commands": ("Write",), "replies": ("Read",)})
        names = [config.topic(name) for name in ("commands", "replies", "events")]
        topics = described(client, config.bootstrap, names)
        commands, replies, events = map(topics.get, names)
        if commands is None or replies is None:
            raise ConfigurationError(f"the topics of {config.app} do not exist: orchestrator topics init")
        self.partitions = len(commands.partitions)
        # Whoever may not see the events topic cannot compare.
        if events is not None and len(events.partitions) < self.partitions:
            raise ConfigurationError(unequal(config, self.partitions, len(events.partitions)))
        self.reply_topic = config.topic("replies")
        self.reply_partition = random.randrange(len(replies.partitions))
        self._config = config
        self._on_reply = on_reply
        self._stopped = False
        self._outgoing = KafkaOutgoing(config)
        consumer = Consumer(config.consumer(group_id=f"{config.app}.client", fetch_wait_max_ms=200))
        self._consumer = connected(consumer, self.reply_topic)
        self._thread = threading.Thread(target=self._serve, name="replies", daemon=True)
        try:
            self._seek_to_end()
        except KafkaUnavailable:
            self._outgoing.close()
            raise
        self._thread.start()

    def _seek_to_end(self) -> None:
        """From here on. A topic that was just made may have no leader yet: asked again until the time is over."""
        position = TopicPartition(self.reply_topic, self.reply_partition)
        deadline = time.monotonic() + ASK_S
        bounds: Any = None
        while True:
            try:
                bounds = self._consumer.get_watermark_offsets(position, timeout=ASK_S)
                break
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise KafkaUnavailable(f"{self.reply_topic}: {error.args[0].str()}") from error
                self._consumer.poll(0.1)
        if bounds is None:
            raise KafkaUnavailable(f"{self.reply_topic}: the broker did not answer within {ASK_S:.0f} s")
        self._consumer.assign([TopicPartition(self.reply_topic, self.reply_partition, bounds[1])])

    def _found_again(self) -> bool:
        try:
            self._seek_to_end()
        except (KafkaUnavailable, KafkaException) as error:
            log.warning("no answer is heard: %s", error)
            return False
        return True

    def send(
        self, partition: int, key: bytes, value: bytes, done: Callable[[str], None], headers: Headers = ()
    ) -> None:
        """Queue a command for one partition of the commands topic."""
        self._outgoing.send(Out(self._config.topic("commands"), partition, key, value, headers), done)

    def close(self) -> None:
        """Let what was queued go; end every thread. What is late is left, after seconds."""
        close_all({"outgoing": self._outgoing.close, "replies": self._close_replies}, FLUSH_S + CLOSE_S)

    def _close_replies(self) -> None:
        self._stopped = True
        self._thread.join()
        self._consumer.close()

    def _serve(self) -> None:
        astray = False
        while not self._stopped:
            astray = astray and not self._found_again()
            message = self._consumer.poll(0.2)
            if message is None:
                continue
            if (error := message.error()) is None:
                self._on_reply(message.value() or b"")
            elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                # The right was there when the client was opened. A group's is not needed: nothing is committed.
                log.error("no answer is heard: %s", lacks(self._config, on_topic("Read", self.reply_topic)))
            elif error.code() in ELSEWHERE:
                # Nothing more would be fetched. An answer that is missed comes again: its command is sent again.
                log.warning("%s: %s: answers are heard from its end on", self.reply_topic, error.str())
                astray = True


class TaskConsumer:
    """A member of the groups of task queues.

    An offer is acknowledged as it is handed over (the engine offers it again). Raises ConfigurationError for options.
    """

    def __init__(self, app: str, settings: Settings) -> None:
        self._config = config = LogConfig.of(settings, app)
        self._group = f"{app}.worker.{'+'.join(sorted(settings.queues))}"
        self._topics = [config.topic(f"tasks.{queue}") for queue in settings.queues]
        self._consumer = made(
            Consumer,
            config.consumer(
                group_id=self._group,
                session_timeout_ms=int(config.session_timeout_s * 1000),
                heartbeat_interval_ms=int(config.session_timeout_s * 1000 / 3),
                enable_auto_commit=True,
                enable_auto_offset_store=True,
                auto_commit_interval_ms=500,
                auto_offset_reset="earliest",
                # New partitions of a task topic (`topics grow`) are found at most so long after.
                topic_metadata_refresh_interval_ms=10_000,
                queued_min_messages=1,
                queued_max_messages_kbytes=1_024,
            ),
        )
        self._consumer.subscribe(self._topics, on_assign=self._on_assign)
        self._paused = False

    def poll(self, timeout_s: float, take: bool) -> bytes | None:
        """The next offer's value; `take` False keeps the membership and takes nothing.

        Raises ConfigurationError for a topic that does not exist, KafkaUnavailable for a right that is missing.
        """
        self._pause(not take)
        message = self._consumer.poll(timeout_s)
        if message is None:
            return None
        error = message.error()
        if error is None:
            return message.value()
        if refused(error):
            raise KafkaUnavailable(lacks(self._config, self._need(error)))
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise ConfigurationError(
                f"a topic of {', '.join(self._topics)} does not exist: orchestrator topics init --queue NAME"
            )
        return None

    def _need(self, error: KafkaError) -> Need:
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return Need("Read", "group", self._group)
        return on_topic("Read", ", ".join(self._topics))

    def close(self) -> None:
        """Leave the group: within seconds, or its members wait until the session is over."""
        close_all({"member of the task queues": self._consumer.close}, LEAVE_S)

    def _pause(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            self._apply(self._consumer.assignment())

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        self._apply(partitions)

    def _apply(self, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            (self._consumer.pause if self._paused else self._consumer.resume)(list(partitions))
