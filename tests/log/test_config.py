"""How to reach the log: pass-through of librdkafka's options, names, and nothing secret on display."""

from __future__ import annotations

from orchestrator.config import Settings
from orchestrator.log.config import LogConfig


def test_names_begin_with_the_application() -> None:
    config = LogConfig("shop", "b:1", lanes=3)
    assert config.topic("events") == "shop.events"
    assert config.group == "shop.engine"
    assert config.lane_names(4) == ("shop.4.a", "shop.4.b", "shop.4.c")


def test_secrets_are_not_shown() -> None:
    config = LogConfig("shop", "b:1", {"sasl.password": "hunter2"})
    assert "hunter2" not in repr(config)
    assert config.client()["sasl.password"] == "hunter2"


def test_options_from_the_environment_reach_every_client() -> None:
    settings = Settings.from_env({"ORCHESTRATOR_BOOTSTRAP": "b:1", "ORCHESTRATOR_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"})
    config = LogConfig.of(settings, "shop")
    for options in (config.client(), config.consumer(), config.client(linger_ms=0)):
        assert options["security.protocol"] == "SASL_SSL"
        assert options["bootstrap.servers"] == "b:1"


def test_what_the_engine_relies_on_wins_over_an_option() -> None:
    config = LogConfig("shop", "b:1", {"isolation.level": "read_uncommitted", "enable.auto.commit": "true"})
    assert config.consumer()["isolation.level"] == "read_committed"
    assert config.consumer()["enable.auto.commit"] is False


def test_only_the_membership_consumer_carries_the_instance_id() -> None:
    settings = Settings.from_env({"ORCHESTRATOR_KAFKA_GROUP_INSTANCE_ID": "pod-0"})
    config = LogConfig.of(settings, "shop")
    assert config.instance_id == "pod-0"
    assert "group.instance.id" not in config.consumer()
