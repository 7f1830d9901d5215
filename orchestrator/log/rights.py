"""What to say when a broker refuses: which right is missing, on what, and whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._topic import TopicDescription

from ..errors import KafkaUnavailable
from .config import LogConfig

ASK_S = 15.0
REFUSED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""The errors of a broker that knows who asks, and does not let them."""


class Need(NamedTuple):
    """A right: `right` as Kafka names the operation, `kind` and `name` of what it is on."""

    right: str
    kind: str
    name: str


def on_topic(right: str, topic: str) -> Need:
    """A right on a topic, by its full name."""
    return Need(right, "topic", topic)


def refused(error: KafkaError) -> bool:
    """Whether a right is missing: the next try meets the same until somebody gives it."""
    return error.code() in REFUSED


def why(config: LogConfig, error: KafkaError, need: Need) -> str:
    """What a broker said; of a refusal, which right is missing and whose, with the place that lists them all."""
    return lacks(config, need) if refused(error) else str(error.str())


def lacks(config: LogConfig, *needs: Need) -> str:
    """The sentence of rights that are missing."""
    found: dict[tuple[str, str], list[str]] = {}
    for need in needs:
        found.setdefault((need.right, need.kind), []).append(need.name)
    rights = ", and ".join(f"{right} on {kind} {', '.join(names)}" for (right, kind), names in found.items())
    return f"{login(config)} lacks the right {rights} (docs/security.md, Rights on Kafka, lists who needs which)"


def login(config: LogConfig) -> str:
    """Who we are to the broker, which let us in under this name."""
    if user := config.options.get("sasl.username"):
        return f"the login {user}"
    named = any(name.startswith("ssl.") and ("certificate" in name or "keystore" in name) for name in config.options)
    return "the login of this process's certificate" if named else "this process, which has no login,"


def asked(client: AdminClient, topic: str) -> Future[TopicDescription]:
    """What a broker says of a topic, for `allows`, once it has answered."""
    found: dict[str, Future[TopicDescription]] = client.describe_topics(
        TopicCollection([topic]), include_authorized_operations=True, request_timeout=ASK_S
    )
    return found[topic]


def allows(answer: Future[TopicDescription], right: str) -> bool:
    """Whether the broker says that we have the right. False as well if it did not answer, or lets us see nothing."""
    if answer.exception() is not None:
        return False
    allowed = answer.result().authorized_operations
    return allowed is None or AclOperation[right.upper()] in allowed


def check_topics_allow(config: LogConfig, client: AdminClient, needs: Mapping[str, Sequence[str]]) -> None:
    """Whether this login has the rights on topics, by name after `<app>.`, without which it would wait in silence.

    A topic that is not there is not looked at, and a broker that does not say what is allowed is believed to allow it.
    Raises KafkaUnavailable naming what is missing.
    """
    names = [config.topic(name) for name in needs]
    asked = client.describe_topics(TopicCollection(names), include_authorized_operations=True, request_timeout=ASK_S)
    missing = []
    for name, rights in needs.items():
        topic = config.topic(name)
        try:
            allowed = asked[topic].result().authorized_operations
        except KafkaException as error:
            if refused(error.args[0]):
                missing += [on_topic(right, topic) for right in rights]
            continue
        if allowed is not None:
            missing += [on_topic(right, topic) for right in rights if AclOperation[right.upper()] not in allowed]
    if missing:
        raise KafkaUnavailable(lacks(config, *missing))
