"""The application's topics: made by `topics init` with the settings of format v1, verified by `topics check`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartitionInfo
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from ..errors import ConfigurationError, KafkaUnavailable
from .config import MAX_MESSAGE_BYTES, LogConfig
from .connecting import AGAIN_AFTER_S, Troubles, answered, described, made, metadata
from .group_settings import group_settings, problem_of, set_group
from .ports import TopicIds
from .rights import Need, check_topics_allow, lacks, on_topic, refused, why

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
ASK_S = 15.0
ATTEMPTS_S = (0.7, 1.8, 2.5)
"""How long a broker is asked for a first answer: one that does not let us in says so at once."""
LAST_S = 0.5
"""What is left of it when an attempt ended early, because a connection broke."""

COUNTS_TWICE = ": a command that is read again when its id is forgotten, after 14 days, would count twice"


class TopicPlan(NamedTuple):
    """How a topic of the application must be. `partitions` 0: as many as commands has."""

    partitions: int
    retention_ms: int
    log_append_time: bool = False


class Finding(NamedTuple):
    """Something `topics check` looked at: whether it is as it must be, and what to do if not."""

    ok: bool
    what: str
    remedy: str = ""


def plan(partitions: int, queues: Iterable[str] = ()) -> dict[str, TopicPlan]:
    """Topics by name after `<app>.` (format.md)."""
    topics = {
        "commands": TopicPlan(partitions, 14 * DAY_MS, log_append_time=True),
        "events": TopicPlan(partitions, -1, log_append_time=True),
        "replies": TopicPlan(partitions, DAY_MS),
        "dead-letters": TopicPlan(1, 90 * DAY_MS),
        "anchors": TopicPlan(1, -1),
    }
    topics.update({f"tasks.{queue}": TopicPlan(partitions, 14 * DAY_MS) for queue in queues})
    return topics


def admin(config: LogConfig) -> AdminClient:
    """An admin client. Raises KafkaUnavailable when no broker answers or lets us in, ConfigurationError for options."""
    troubles = Troubles()
    client = made(AdminClient, {**config.client(), "error_cb": troubles.note})
    deadline = time.monotonic() + sum(ATTEMPTS_S)
    attempts = chain(ATTEMPTS_S, repeat(LAST_S))
    while True:
        try:
            # Not the metadata of all topics: a cluster may have thousands.
            client.describe_cluster(request_timeout=next(attempts)).result()
            return client
        except KafkaException as error:
            # Serves `error_cb`: only that one hears why we are not let in.
            client.poll(AGAIN_AFTER_S)
            if time.monotonic() > deadline or troubles.refused:
                raise troubles.unavailable(config.bootstrap, error.args[0].str()) from error


def init_topics(
    config: LogConfig, partitions: int, queues: Sequence[str] = (), replication_factor: int = 0
) -> list[str]:
    """Create what is missing; returns the names created. Once events exist, their count of partitions is everybody's.

    Raises ConfigurationError when commands and events differ in count, or a topic cannot be created.
    """
    client = admin(config)
    check_topics_allow(config, client, dict.fromkeys(plan(partitions, queues), ("Describe",)))
    replicas = replication_factor or min(3, _brokers(client, config))
    ours = [config.topic(name) for name in plan(partitions, queues)]
    existing = {name: len(topic.partitions) for name, topic in described(client, config.bootstrap, ours).items()}
    known = {existing[name] for name in map(config.topic, ("commands", "events")) if name in existing}
    if len(known) > 1:
        raise ConfigurationError(unequal(config, *(existing[config.topic(name)] for name in ("commands", "events"))))
    partitions = min(known, default=partitions)
    missing = [
        NewTopic(config.topic(name), one.partitions, replication_factor=replicas, config=_settings(one, replicas))
        for name, one in plan(partitions, queues).items()
        if config.topic(name) not in existing
    ]
    for name, future in (client.create_topics(missing, operation_timeout=ASK_S) if missing else {}).items():
        try:
            future.result()
        except KafkaException as error:
            if refused(error.args[0]):
                raise KafkaUnavailable(lacks(config, on_topic("Create", name))) from error
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ConfigurationError(f"topic {name} cannot be created: {error.args[0].str()}") from error
    _wait_for_leaders(client, config, [topic.topic for topic in missing])
    if problem := set_group(client, config):
        log.warning("group %s: %s", config.group, problem)
    return [topic.topic for topic in missing]


def _brokers(client: AdminClient, config: LogConfig) -> int:
    return len(answered(client, config.bootstrap, lambda s: client.describe_cluster(request_timeout=s).result()).nodes)


def led(partition: TopicPartitionInfo) -> bool:
    """Whether a partition has a leader."""
    return partition.leader is not None and partition.leader.id >= 0


def _wait_for_leaders(client: AdminClient, config: LogConfig, names: Sequence[str]) -> None:
    """A created topic is known, and led, a moment later: whoever comes next must find it. Raises ConfigurationError."""
    deadline = time.monotonic() + ASK_S
    while True:
        topics = described(client, config.bootstrap, names)
        waiting = [name for name in names if name not in topics or not all(map(led, topics[name].partitions))]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise ConfigurationError(f"{', '.join(waiting)}: created, and without a leader for {ASK_S:.0f} s")
        client.poll(0.05)


def _settings(topic: TopicPlan, replicas: int) -> dict[str, str]:
    settings = {
        "cleanup.policy": "delete",
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": "-1",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": str(_in_sync(replicas)),
    }
    if topic.log_append_time:
        settings["message.timestamp.type"] = "LogAppendTime"
    return settings


def topic_ids(config: LogConfig, client: AdminClient | None = None, *, auditing: bool = False) -> TopicIds:
    """Identities as the cluster sees them now. `auditing`: whoever may not see the commands still has the events'.

    Raises ConfigurationError naming `topics init` when one is missing, KafkaUnavailable when nobody says.
    """
    client = client or admin(config)
    names = [config.topic("commands"), config.topic("events")]
    found = client.describe_topics(TopicCollection(names), request_timeout=ASK_S)
    seen: dict[str, Any] = {}
    for name, future in found.items():
        try:
            seen[name] = future.result()
        except KafkaException as error:
            if auditing and name == names[0] and refused(error.args[0]):
                continue
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                said = why(config, error.args[0], on_topic("Describe", name))
                raise KafkaUnavailable(f"topic {name}: {said}") from error
            raise ConfigurationError(
                f"topic {name}: {error.args[0].str()}. Create the application's topics: orchestrator topics init"
            ) from error
    commands, events = seen.get(names[0]), seen[names[1]]
    count = len((commands or events).partitions)
    # More events than commands: a growth began, and commands are still routed by the old count.
    if count > len(events.partitions):
        raise ConfigurationError(unequal(config, count, len(events.partitions)))
    try:
        cluster = client.describe_cluster(request_timeout=ASK_S).result()
    except KafkaException as error:
        raise KafkaUnavailable(f"the cluster does not say who it is: {error.args[0].str()}") from error
    return TopicIds(str(cluster.cluster_id), str(commands.topic_id) if commands else "", str(events.topic_id), count)


def unequal(config: LogConfig, commands: int, events: int) -> str:
    """What to say of counts that differ: a growth that was not finished, or one behind our back."""
    return (
        f"{config.app}.commands has {commands} partitions, {config.app}.events {events}: they must be equal. Finish the"
        f" growth, whoever began it: orchestrator topics grow {max(commands, events)}"
    )


def partition_count(config: LogConfig, name: str) -> int:
    """How many partitions a topic has.

    Raises ConfigurationError naming `topics init` when it is missing, KafkaUnavailable when it may not be seen.
    """
    full = config.topic(name)
    client = admin(config)
    check_topics_allow(config, client, {name: ("Describe",)})
    topic = described(client, config.bootstrap, [full]).get(full)
    if topic is None:
        raise ConfigurationError(
            f"topic {full} does not exist. Create the application's topics: orchestrator topics init"
        )
    return len(topic.partitions)


def check_topics(config: LogConfig, queues: Sequence[str] = ()) -> list[Finding]:
    """Everything that the engine relies on, each with a verdict and a remedy."""
    client = admin(config)
    check_topics_allow(config, client, dict.fromkeys(plan(1, queues), ("Describe",)))
    cluster = metadata(client, config.bootstrap)
    counts = {name: len(topic.partitions) for name, topic in cluster.topics.items()}
    events = counts.get(config.topic("events"), 0)
    brokers = len(cluster.brokers)
    findings = []
    for name, wanted in plan(events, queues).items():
        full = config.topic(name)
        if full not in counts:
            findings.append(Finding(False, f"{full} does not exist", "orchestrator topics init"))
            continue
        replicas = min((len(one.replicas) for one in cluster.topics[full].partitions.values()), default=0)
        settings = _describe(config, client, ResourceType.TOPIC, full)
        findings += _check_topic(full, counts[full], wanted, name, settings)
        findings += [_check_replicas(full, replicas, brokers), _check_in_sync(full, replicas, settings)]
    findings += _check_group(client, config)
    findings += _check_brokers(config, client, [broker.id for broker in cluster.brokers.values()])
    return findings


def _check_replicas(full: str, replicas: int, brokers: int) -> Finding:
    wanted = min(3, brokers)
    remedy = "" if replicas >= wanted else f"kafka-reassign-partitions: {wanted} replicas, then min.insync.replicas"
    return Finding(not remedy, f"{full}: {replicas} replicas on {brokers} brokers", remedy)


def _check_in_sync(full: str, replicas: int, settings: Mapping[str, str]) -> Finding:
    """With one replica in sync, `acks=all` survives nobody's death."""
    found, wanted = _number(settings.get("min.insync.replicas")), _in_sync(replicas)
    ok = wanted <= found < max(2, replicas)
    remedy = "" if ok else f"kafka-configs --alter --topic {full} --add-config min.insync.replicas={wanted}"
    return Finding(ok, f"{full}: min.insync.replicas is {found} of {replicas} replicas", remedy)


def _in_sync(replicas: int) -> int:
    return 2 if replicas >= 3 else 1


def _check_group(client: AdminClient, config: LogConfig) -> list[Finding]:
    """What KIP-848 takes from the group. A broker without such settings has nothing to compare."""
    problem = set_group(client, config, only_try=True)
    try:
        found = _describe(config, client, ResourceType.GROUP, config.group)
    except KafkaException as error:
        problem = problem or problem_of(config, error)
        return [Finding(False, f"group {config.group}: its settings cannot be read", problem)] if problem else []
    findings = []
    for option, value in group_settings(config).items():
        remedy = "" if found.get(option) == value else problem or "orchestrator topics init"
        findings.append(Finding(not remedy, f"group {config.group}: {option} is {found.get(option, '?')}", remedy))
    return findings


def _check_topic(full: str, count: int, wanted: TopicPlan, name: str, settings: Mapping[str, str]) -> list[Finding]:
    findings = []
    if name in ("commands", "events"):
        text = f"{full} has {count} partitions"
        remedy = f"finish the growth, whoever began it: orchestrator topics grow {max(count, wanted.partitions)}"
        findings.append(Finding(count == wanted.partitions, text, remedy if count != wanted.partitions else ""))
    must = {"cleanup.policy": "delete", "unclean.leader.election.enable": "false", "retention.bytes": "-1"}
    if wanted.log_append_time:
        must["message.timestamp.type"] = "LogAppendTime"
    verdicts = [(option, value, settings.get(option) == value) for option, value in must.items()]
    kept = _number(settings.get("retention.ms"))
    long_enough = kept == -1 or (wanted.retention_ms != -1 and kept >= wanted.retention_ms)
    # Of commands the ids are remembered for as long as this, and no longer.
    too_long = name == "commands" and long_enough and kept != wanted.retention_ms
    verdicts.append(("retention.ms", str(wanted.retention_ms), long_enough and not too_long))
    large_enough = _number(settings.get("max.message.bytes")) >= MAX_MESSAGE_BYTES
    verdicts.append(("max.message.bytes", str(MAX_MESSAGE_BYTES), large_enough))
    for option, value, ok in verdicts:
        remedy = "" if ok else f"kafka-configs --alter --topic {full} --add-config {option}={value}"
        why = COUNTS_TWICE if option == "retention.ms" and too_long else ""
        findings.append(Finding(ok, f"{full}: {option} is {settings.get(option, '?')}{why}", remedy))
    return findings


def _number(text: str | None) -> int:
    return int(text) if text and text.lstrip("-").isdigit() else 0


def _check_brokers(config: LogConfig, client: AdminClient, brokers: list[int]) -> list[Finding]:
    findings = []
    option = "transaction.partition.verification.enable"
    for broker in brokers:
        found = _describe(config, client, ResourceType.BROKER, str(broker)).get(option, "?")
        ok = found == "true"
        remedy = "" if ok else f"set {option}=true on the broker: without it a late request can tear a transaction"
        findings.append(Finding(ok, f"broker {broker}: {option} is {found}", remedy))
    return findings


def _describe(config: LogConfig, client: AdminClient, kind: ResourceType, name: str) -> dict[str, str]:
    """The settings of a topic, a group or a broker. Raises KafkaUnavailable when this login may not see them."""
    (future,) = client.describe_configs([ConfigResource(kind, name)], request_timeout=ASK_S).values()
    try:
        return {option: str(entry.value) for option, entry in future.result().items()}
    except KafkaException as error:
        if not refused(error.args[0]) or kind is ResourceType.GROUP:
            raise
        topic = kind is ResourceType.TOPIC
        need = on_topic("DescribeConfigs", name) if topic else Need("DescribeConfigs", "cluster", "kafka-cluster")
        raise KafkaUnavailable(lacks(config, need)) from error
