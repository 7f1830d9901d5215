"""What callers and workers need.

A producer of commands, a reader of one reply partition, a member of a task queue's group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, KafkaError, TopicPartition

from ..config import Settings
from ..errors import ConfigurationError, KafkaUnavailable
from .closing import CLOSE_S, FLUSH_S, LEAVE_S, close_all
from .config import LogConfig
from .connecting import described, made
from .outbox import KafkaOutgoing
from .ports import Headers, Out
from .replies import KafkaReplies
from .rights import Need, check_topics_allow, lacks, on_topic, refused
from .topics import admin, unequal


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
        self._commands = config.topic("commands")
        self._outgoing = KafkaOutgoing(config)
        try:
            self._replies = KafkaReplies(config, len(replies.partitions), on_reply)
        except BaseException:
            self._outgoing.close()
            raise

    @property
    def reply_topic(self) -> str:
        """Where answers are heard."""
        return self._replies.topic

    @property
    def reply_partition(self) -> int:
        """Which partition of it."""
        return self._replies.partition

    def send(
        self, partition: int, key: bytes, value: bytes, done: Callable[[str], None], headers: Headers = ()
    ) -> None:
        """Queue a command for one partition of the commands topic."""
        self._outgoing.send(Out(self._commands, partition, key, value, headers), done)

    def close(self) -> None:
        """Let what was queued go; end every thread. What is late is left, after seconds."""
        close_all({"outgoing": self._outgoing.close, "replies": self._replies.close}, FLUSH_S + CLOSE_S)


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
