"""Where a partition begins and ends is asked again after a refusal, and not of what the client knew before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from orchestrator.errors import ConfigurationError
from orchestrator.log.config import LogConfig
from orchestrator.log.following import FollowingReader


class Admin:
    """A client as librdkafka's is: it keeps to the leader epoch that it knows until it is made to ask for metadata."""

    def __init__(self) -> None:
        self.epoch, self.known, self.asked = 1, 1, 0

    def list_topics(self, topic: str, timeout: float) -> Any:
        self.asked += 1
        self.known = self.epoch
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions={0: None, 1: None})})

    def list_offsets(self, wanted: dict[Any, Any], **_: Any) -> dict[Any, Any]:
        def result() -> Any:
            if self.known != self.epoch:
                raise KafkaException(KafkaError(KafkaError.FENCED_LEADER_EPOCH))
            return SimpleNamespace(offset=7)

        return {place: SimpleNamespace(result=result) for place in wanted}


def test_after_a_refusal_the_client_asks_who_leads() -> None:
    reader, admin = FollowingReader.__new__(FollowingReader), Admin()
    reader._config, reader._topic = LogConfig("shop", "nowhere:1"), "shop.events"
    reader._admin, reader._known = admin, {}  # type: ignore[assignment]
    assert reader.bounds(0) == (7, 7)
    assert reader.bounds(1) == (7, 7)
    assert admin.asked == 1
    admin.epoch = 2
    with pytest.raises(ConfigurationError, match=r"shop\.events/0: "):
        reader.bounds(0)
    assert reader.bounds(0) == (7, 7)
    assert admin.asked == 2
