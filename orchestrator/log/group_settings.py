"""What KIP-848 takes from the consumer group and not from its members: how soon a death is noticed."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from .config import LogConfig
from .rights import Need, lacks, refused

ASK_S = 15.0
HEARTBEAT_MS = 500
UNKNOWN = frozenset(
    {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE, KafkaError.INVALID_REQUEST}  # noqa: SLF001
)
"""What brokers say that know no settings of groups: their members bring them."""


def group_settings(config: LogConfig) -> dict[str, str]:
    """The settings of the application's group."""
    return {
        "consumer.session.timeout.ms": str(int(config.session_timeout_s * 1000)),
        "consumer.heartbeat.interval.ms": str(HEARTBEAT_MS),
    }


def set_group(client: AdminClient, config: LogConfig, *, only_try: bool = False) -> str:
    """Set them, or `only_try` to; what stands in the way, with what to do, or "".

    Brokers without such settings have nothing to set.
    """
    group = ConfigResource(
        ResourceType.GROUP,
        config.group,
        incremental_configs=[
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in group_settings(config).items()
        ],
    )
    (future,) = client.incremental_alter_configs([group], validate_only=only_try, request_timeout=ASK_S).values()
    try:
        future.result()
    except KafkaException as error:
        return problem_of(config, error)
    return ""


def problem_of(config: LogConfig, error: KafkaException) -> str:
    """Why the group's settings cannot be had as they should be, with what to do; "" of brokers that have none."""
    code, said = error.args[0].code(), error.args[0].str()
    if code in UNKNOWN:
        return ""
    if refused(error.args[0]):
        return lacks(config, *(Need(right, "group", config.group) for right in ("DescribeConfigs", "AlterConfigs")))
    return (
        f"the brokers refuse a session of {config.session_timeout_s:g} s ({said}): lower their"
        " group.consumer.min.session.timeout.ms and group.consumer.min.heartbeat.interval.ms, or raise"
        " ORCHESTRATOR_SESSION_TIMEOUT_S. Until then a killed engine is missed after their own time-out"
    )
