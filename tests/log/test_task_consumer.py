"""A worker's consumer of its queues."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import Settings
from orchestrator.log import client_io
from orchestrator.log.config import LogConfig


def test_no_offer_waits_for_a_fetch_that_was_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka puts the next fetch off for a second, by default, while one offer waits in its queue."""
    given: dict[str, Any] = {}

    class Recorded:
        def __init__(self, options: dict[str, Any]) -> None:
            given.update(options)

        def subscribe(self, topics: list[str], **_: Any) -> None:
            given["topics"] = topics

    monkeypatch.setattr(client_io, "Consumer", Recorded)
    settings = Settings(app_name="shop", bootstrap="127.0.0.1:1", queues=("gpu",))
    client_io.TaskConsumer("shop", settings)
    own = LogConfig.of(settings, "shop").consumer()
    for name in ("fetch.queue.backoff.ms", "fetch.wait.max.ms", "isolation.level"):
        assert given[name] == own[name]
    assert given["topics"] == ["shop.tasks.gpu"]
    assert given["enable.auto.commit"] is given["enable.auto.offset.store"] is True
