"""One engine process's ports over Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import KafkaUnavailable
from .closing import CLOSE_S, FLUSH_S, close_all
from .config import LogConfig
from .connecting import described
from .group_offsets import GroupOffsets
from .growing import first_event
from .inputs import KafkaInputs
from .lanes import KafkaLanes
from .membership import GroupMembership, StaticMembership
from .outbox import KafkaOutgoing
from .ports import TopicIds, Wire
from .replies import KafkaReplies
from .rights import check_topics_allow
from .tail import KafkaStandby, KafkaTail
from .topics import ASK_S, admin, topic_ids

NEEDS = {
    "commands": ("Read", "Write"),
    "events": ("Read", "Write"),
    "replies": ("Write",),
    "dead-letters": ("Write",),
}
"""What no engine works without. A task topic, or the anchors, only those miss who use them."""


class KafkaLog:
    """Opens every client; raises KafkaUnavailable, ConfigurationError when the log is not there."""

    def __init__(self, config: LogConfig) -> None:
        self.app = config.app
        self._config = config
        self._looking = threading.Lock()
        self._first: Wire | None = None
        self._admin = admin(config)
        check_topics_allow(config, self._admin, NEEDS)
        self._ids = topic_ids(config, self._admin)
        self._tail = KafkaTail(config)
        self._standby: KafkaStandby | None = None
        self._inputs = KafkaInputs(config)
        self._outgoing = KafkaOutgoing(config, keeps=config.topic("commands"))
        self._group = GroupOffsets(config)
        self._membership = StaticMembership(config) if config.assignment else GroupMembership(config)

    def topic_ids(self) -> TopicIds:
        """Asked anew at every call."""
        return topic_ids(self._config, self._admin)

    def lanes(self, partition: int) -> KafkaLanes:
        """The producers of one partition."""
        return KafkaLanes(self._config, partition)

    def tail(self) -> KafkaTail:
        """The reader of owned events."""
        return self._tail

    def standby(self) -> KafkaStandby:
        """The reader of events that others own, opened when it is first asked for."""
        with self._looking:
            if self._standby is None:
                self._standby = KafkaStandby(self._config)
            return self._standby

    def inputs(self) -> KafkaInputs:
        """The reader of commands."""
        return self._inputs

    def outgoing(self) -> KafkaOutgoing:
        """The outbox's producer."""
        return self._outgoing

    def membership(self) -> GroupMembership | StaticMembership:
        """Which partitions are mine."""
        return self._membership

    def replies(self, sink: Callable[[bytes], None]) -> KafkaReplies:
        """A reader of answers, which its owner closes. Raises KafkaUnavailable, also for want of the right to read."""
        check_topics_allow(self._config, self._admin, {"replies": ("Read",)})
        topic = self._config.topic("replies")
        found = described(self._admin, self._config.bootstrap, [topic]).get(topic)
        if found is None:
            raise KafkaUnavailable(f"the topic {topic} is not there: orchestrator topics init")
        return KafkaReplies(self._config, len(found.partitions), sink)

    def noted(self, partition: int) -> str:
        """The metadata of the group's offset of one partition. Raises KafkaUnavailable when it cannot be had."""
        try:
            return self._group.notes([partition], ASK_S).get(partition, "")
        except KafkaUnavailable as error:
            raise KafkaUnavailable(f"{error}. They witness where the log ended; trying again") from error

    def first_event(self) -> Wire | None:
        """The first record of the application's events, which stays the first one. Raises KafkaUnavailable."""
        with self._looking:
            if self._first is None:
                self._first = first_event(self._config, self._admin)
            return self._first

    def close(self) -> None:
        """End every client but the membership's, which the engine ends first. What is late is left, after seconds."""
        closes = {
            "group": self._group.close,
            "outgoing": self._outgoing.close,
            "inputs": self._inputs.close,
            "tail": self._tail.close,
        }
        if self._standby is not None:
            closes["standby"] = self._standby.close
        close_all(closes, FLUSH_S + CLOSE_S)
