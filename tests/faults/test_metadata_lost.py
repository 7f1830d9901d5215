"""A connection that breaks while the cluster is asked what it has: whoever asks is answered, or told in our words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.errors import KafkaUnavailable
from orchestrator.log import connecting
from orchestrator.log.client_io import ClientIo
from orchestrator.log.config import LogConfig
from orchestrator.log.growing import counts
from orchestrator.log.hanging import hanging
from orchestrator.log.reader import topic_exists
from orchestrator.log.topics import admin, check_topics, init_topics, partition_count
from tests.faults.kafka_proxy import METADATA, Rule
from tests.faults.proxied import Proxied

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 3
TIMES = 4
REQUESTS = 4
"""Which of a call's requests is the first to be lost."""

CALLS: dict[str, Callable[[LogConfig], bool]] = {
    "topics init": lambda config: init_topics(config, PARTITIONS) == [],
    "topics check": lambda config: all(one.ok for one in check_topics(config)),
    "topics grow": lambda config: counts(config)["events"] == PARTITIONS,
    "the number of partitions": lambda config: partition_count(config, "events") == PARTITIONS,
    "whether a topic exists": lambda config: topic_exists(config, config.topic("replies")),
    "open transactions": lambda config: hanging(config, config.topic("events")) == [],
    "a client": lambda config: _partitions_of_a_client(config) == PARTITIONS,
}


def _partitions_of_a_client(config: LogConfig) -> int:
    made = ClientIo(config, lambda _: None)
    try:
        return made.partitions
    finally:
        made.close()


@pytest.mark.parametrize("call", CALLS)
def test_a_broken_connection_is_made_again(stage: Proxied, call: str) -> None:
    app = stage.name("a")
    init_topics(LogConfig(app, stage.direct), PARTITIONS)
    config = LogConfig(app, stage.proxied)
    fired = 0
    for nth in range(1, REQUESTS + 1):
        rule = stage.proxy.add(Rule(METADATA, "disconnect", nth=nth, times=TIMES))
        try:
            assert CALLS[call](config), (call, nth)
        finally:
            stage.proxy.heal()
        fired += rule.fired
    assert fired >= 2, "the connection never broke"


def test_one_that_stays_away_is_named(stage: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    config = LogConfig(stage.name("a"), stage.proxied)
    client = admin(config)
    monkeypatch.setattr(connecting, "ASK_S", 2.0)
    stage.proxy.add(Rule(METADATA, "disconnect", times=10_000))
    try:
        with pytest.raises(KafkaUnavailable, match=f"Kafka at {stage.proxied} does not answer"):
            connecting.metadata(client, config.bootstrap)
    finally:
        stage.proxy.heal()
