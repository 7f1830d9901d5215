"""`topics init` makes what `topics check` wants; each thing that differs is found, with a remedy."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from orchestrator.devkafka import DevKafka
from orchestrator.engine.options import EngineOptions
from orchestrator.errors import ConfigurationError, KafkaUnavailable
from orchestrator.log import topics
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import Finding, check_topics, init_topics, topic_ids
from tests.log.world import PARTITIONS, WAIT_S, KafkaWorld

pytestmark = pytest.mark.broker


def admin_of(world: KafkaWorld) -> AdminClient:
    """Kafka's own tools."""
    return AdminClient({"bootstrap.servers": world.bootstrap})


def change(world: KafkaWorld, kind: ResourceType, name: str, option: str, value: str) -> None:
    """What an administrator may do behind our back."""
    entry = ConfigEntry(option, value, incremental_operation=AlterConfigOpType.SET)
    admin = admin_of(world)
    (future,) = admin.incremental_alter_configs([ConfigResource(kind, name, incremental_configs=[entry])]).values()
    future.result(WAIT_S)
    end = time.monotonic() + WAIT_S
    while setting(world, kind, name, option) != value:
        assert time.monotonic() < end, f"{name}: {option} does not become {value}"


def setting(world: KafkaWorld, kind: ResourceType, name: str, option: str) -> str | None:
    """A setting as the brokers tell it now."""
    admin = admin_of(world)
    (future,) = admin.describe_configs([ConfigResource(kind, name)]).values()
    value: str | None = future.result(WAIT_S)[option].value
    return value


def delete(world: KafkaWorld, name: str) -> None:
    """Delete a topic; returns when the brokers no longer list it."""
    admin = admin_of(world)
    admin.delete_topics([name])[name].result(WAIT_S)
    end = time.monotonic() + WAIT_S
    while name in admin.list_topics(timeout=WAIT_S).topics:
        assert time.monotonic() < end, f"{name} is still there"


def create(world: KafkaWorld, name: str) -> None:
    """Make a topic by hand; returns when the brokers list it, which is later than the answer."""
    admin = admin_of(world)
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(WAIT_S)
    end = time.monotonic() + WAIT_S
    while name not in admin.list_topics(timeout=WAIT_S).topics:
        assert time.monotonic() < end, f"{name} does not come"


def widen(world: KafkaWorld, name: str, count: int) -> None:
    """Give a topic more partitions; returns when the brokers list them."""
    admin = admin_of(world)
    admin.create_partitions([NewPartitions(name, count)])[name].result(WAIT_S)
    end = time.monotonic() + WAIT_S
    while len(admin.list_topics(timeout=WAIT_S).topics[name].partitions) != count:
        assert time.monotonic() < end, f"{name} still has fewer than {count} partitions"


def wrong(world: KafkaWorld, *queues: str) -> list[Finding]:
    """What `topics check` finds amiss."""
    return [found for found in check_topics(world.config(), queues) if not found.ok]


def test_what_init_makes_check_accepts(kafka_world: KafkaWorld) -> None:
    assert init_topics(kafka_world.config(), PARTITIONS) == [], "a second time there is nothing to do"
    assert wrong(kafka_world) == []
    assert wrong(kafka_world, "gpu") == [
        Finding(False, f"{kafka_world.app}.tasks.gpu does not exist", "orchestrator topics init")
    ]
    assert init_topics(kafka_world.config(), PARTITIONS, ["gpu"]) == [f"{kafka_world.app}.tasks.gpu"]
    assert wrong(kafka_world, "gpu") == []


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("events", "retention.ms", "86400000"),
        ("events", "cleanup.policy", "compact"),
        ("events", "message.timestamp.type", "CreateTime"),
        ("commands", "retention.ms", "3600000"),
        ("commands", "message.timestamp.type", "CreateTime"),
        ("anchors", "retention.bytes", "1000000"),
        ("replies", "max.message.bytes", "1000"),
        ("events", "min.insync.replicas", "2"),
    ],
)
def test_a_setting_that_differs_is_found(kafka_world: KafkaWorld, name: str, option: str, value: str) -> None:
    change(kafka_world, ResourceType.TOPIC, f"{kafka_world.app}.{name}", option, value)
    (found,) = wrong(kafka_world)
    assert found.what.startswith(f"{kafka_world.app}.{name}: {option} is {value}")
    assert f"--topic {kafka_world.app}.{name} --add-config {option}=" in found.remedy


@pytest.mark.parametrize("kept", ["-1", str(15 * 86_400_000)])
def test_commands_are_kept_no_longer_than_their_ids_are_remembered(kafka_world: KafkaWorld, kept: str) -> None:
    assert topics.plan(1)["commands"].retention_ms == EngineOptions().dedup_horizon_ms
    name = f"{kafka_world.app}.commands"
    change(kafka_world, ResourceType.TOPIC, name, "retention.ms", kept)
    (found,) = wrong(kafka_world)
    assert found.what == (
        f"{name}: retention.ms is {kept}: a command that is read again when its id is forgotten, after 14 days, would"
        " count twice"
    )
    assert found.remedy == f"kafka-configs --alter --topic {name} --add-config retention.ms=1209600000"


def test_keeping_answers_for_longer_is_right(kafka_world: KafkaWorld) -> None:
    change(kafka_world, ResourceType.TOPIC, f"{kafka_world.app}.replies", "retention.ms", "-1")
    assert wrong(kafka_world) == []


def test_a_count_changed_behind_our_back_is_refused_everywhere(kafka_world: KafkaWorld) -> None:
    widen(kafka_world, f"{kafka_world.app}.commands", PARTITIONS + 1)
    (found,) = wrong(kafka_world)
    assert "topics grow" in found.remedy
    with pytest.raises(ConfigurationError, match="topics grow"):
        topic_ids(kafka_world.config())
    with pytest.raises(ConfigurationError, match="topics grow"):
        init_topics(kafka_world.config(), PARTITIONS)


def test_what_is_missing_gets_the_count_of_what_is_there(kafka_world: KafkaWorld) -> None:
    name = f"{kafka_world.app}.commands"
    delete(kafka_world, name)
    assert init_topics(kafka_world.config(), PARTITIONS * 2) == [name]
    assert wrong(kafka_world) == []


def test_a_topic_made_again_has_another_identity(kafka_world: KafkaWorld) -> None:
    before = topic_ids(kafka_world.config())
    assert before == topic_ids(kafka_world.config())
    name = f"{kafka_world.app}.events"
    delete(kafka_world, name)
    create(kafka_world, name)
    after = topic_ids(kafka_world.config())
    assert before.events != after.events
    assert (before.cluster_id, before.commands) == (after.cluster_id, after.commands)


def test_the_group_has_the_sessions_time_outs(kafka_world: KafkaWorld) -> None:
    group = kafka_world.config().group
    assert setting(kafka_world, ResourceType.GROUP, group, "consumer.session.timeout.ms") == "6000"
    assert setting(kafka_world, ResourceType.GROUP, group, "consumer.heartbeat.interval.ms") == "500"


def test_a_group_with_other_time_outs_is_found_and_init_sets_them_right(kafka_world: KafkaWorld) -> None:
    group = kafka_world.config().group
    change(kafka_world, ResourceType.GROUP, group, "consumer.session.timeout.ms", "45000")
    assert wrong(kafka_world) == [
        Finding(False, f"group {group}: consumer.session.timeout.ms is 45000", "orchestrator topics init")
    ]
    init_topics(kafka_world.config(), PARTITIONS)
    assert wrong(kafka_world) == []


def test_brokers_that_refuse_the_groups_session_are_named(
    kafka_world: KafkaWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """As stock brokers do, whose least session is 45 s: `topics init` cannot help, and must not be the remedy."""
    config = replace(kafka_world.config(), session_timeout_s=1.0)
    remedy = "group.consumer.min.session.timeout.ms"
    init_topics(config, PARTITIONS)
    assert remedy in caplog.text
    (found,) = [one for one in check_topics(config) if not one.ok]
    assert found.what == f"group {config.group}: consumer.session.timeout.ms is 6000"
    assert remedy in found.remedy
    assert "ORCHESTRATOR_SESSION_TIMEOUT_S" in found.remedy


def test_missing_topics_name_the_command_that_makes_them(kafka_world: KafkaWorld) -> None:
    config = LogConfig(f"none-{uuid.uuid4().hex[:8]}", kafka_world.bootstrap)
    with pytest.raises(ConfigurationError, match="orchestrator topics init"):
        topic_ids(config)
    assert {found.remedy for found in check_topics(config) if not found.ok} == {"orchestrator topics init"}


def test_a_broker_that_stands_still_is_no_missing_topic(
    kafka_world: KafkaWorld, kafka: DevKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = kafka_world.config()
    client = topics.admin(config)
    known = topic_ids(config, client)
    (node,) = kafka.nodes
    with monkeypatch.context() as patch:
        patch.setattr(topics, "ASK_S", 0.5)
        patch.setattr(topics, "admin", lambda config: client)
        node.pause()
        try:
            with pytest.raises(KafkaUnavailable, match=f"topic {kafka_world.app}.commands: .*[Tt]imed out"):
                topic_ids(config, client)
        finally:
            node.resume()
    assert topic_ids(config, client) == known


def test_no_broker_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.log.topics.ATTEMPTS_S", (0.2, 0.2))
    with pytest.raises(KafkaUnavailable, match="orchestrator kafka start"):
        check_topics(LogConfig("a", "127.0.0.1:1"))
