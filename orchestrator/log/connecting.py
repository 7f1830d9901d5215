"""A client meets its broker before it is used, and what is said if it cannot."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from ..errors import ConfigurationError, KafkaUnavailable

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.admin._metadata import ClusterMetadata
    from confluent_kafka.admin._topic import TopicDescription

LOGGER = "orchestrator.kafka"
"""Where librdkafka's own words go."""
CONNECT_S = 5.0
ASK_S = 15.0
AGAIN_AFTER_S = 0.1
AGAIN_S = 30.0
"""How long the same words of librdkafka are not logged again."""
KEPT = 1_000
LOGIN = "ORCHESTRATOR_KAFKA_SASL_USERNAME, _SASL_PASSWORD and _SASL_MECHANISM"
CERTIFICATES = "ORCHESTRATOR_KAFKA_SSL_CA_LOCATION (or _SSL_CA_PEM) and ORCHESTRATOR_KAFKA_SECURITY_PROTOCOL"
_UNSEEN = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED)
_PLACE = re.compile(r"^\S+://\S+: |^\S+/bootstrap: ")
_SINCE = re.compile(r" \(after \d+ms in state [A-Z_]+.*\)$", re.DOTALL)
_WHO = re.compile(r"\[rdkafka#[^]]*\] (\[thrd:[^]]*\]: )?")
_VALUE = re.compile(r'value ".*" for', re.DOTALL)

Client = TypeVar("Client", bound=Any)
Answer = TypeVar("Answer")


def connected(client: Client, topic: str) -> Client:
    """The client, connected if a broker answers within seconds; else as it is: its first use says what is wrong.

    What librdkafka does not find at once (a coordinator, a producer id, a controller) it looks for again half a second
    or more later. Seen with 2.16 on loopback: a first `init_transactions` 4 or 504 ms, a first idempotent record 15 or
    504, a first question of an admin client 2 or 3,002; the lower figures when it was connected.
    """
    with contextlib.suppress(KafkaException):
        # The first answer comes over the bootstrap connection, which is closed then; the second over the broker's own.
        client.list_topics(topic, timeout=CONNECT_S)
        client.list_topics(topic, timeout=CONNECT_S)
    return client


def made(kind: Callable[[dict[str, Any]], Client], options: Mapping[str, Any]) -> Client:
    """A client of these options. Raises ConfigurationError when librdkafka does not take one of them."""
    try:
        return kind(dict(options))
    except KafkaException as error:
        # Never the value: what stands in the wrong variable may be a password, and a traceback shows causes.
        says = _VALUE.sub("value for", error.args[0].str())
    raise ConfigurationError(f"librdkafka does not take its options, ORCHESTRATOR_KAFKA_*: {says}")


def answered(client: AdminClient, bootstrap: str, ask: Callable[[float], Answer]) -> Answer:
    """The answer to a question that may take so many seconds.

    librdkafka asks three times, and gives up at once when each connection breaks: those of a broker that comes back
    after a while do. Raises KafkaUnavailable after `ASK_S`.
    """
    deadline = time.monotonic() + ASK_S
    while True:
        try:
            return ask(max(deadline - time.monotonic(), AGAIN_AFTER_S))
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"Kafka at {bootstrap} does not answer ({error.args[0].str()})") from error
        client.poll(AGAIN_AFTER_S)


def metadata(client: AdminClient, bootstrap: str, topic: str = "") -> ClusterMetadata:
    """What the cluster says of one topic, or of all: there may be thousands. Raises KafkaUnavailable."""
    return answered(client, bootstrap, lambda left_s: client.list_topics(*filter(None, [topic]), timeout=left_s))


def described(client: AdminClient, bootstrap: str, names: Sequence[str]) -> dict[str, TopicDescription]:
    """Those of these topics that exist and may be seen. Raises KafkaUnavailable."""

    def ask(left_s: float) -> dict[str, TopicDescription]:
        futures = client.describe_topics(TopicCollection(list(names)), request_timeout=left_s)
        return {name: future.result() for name, future in futures.items() if not _absent(future.exception())}

    return answered(client, bootstrap, ask) if names else {}


def _absent(error: BaseException | None) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _UNSEEN


class Troubles:
    """What a client was told by its connections: its calls say only that nobody answered."""

    def __init__(self) -> None:
        self._said: dict[int, str] = {}

    def note(self, error: KafkaError) -> None:
        """librdkafka's `error_cb`."""
        self._said[error.code()] = _SINCE.sub("", _PLACE.sub("", error.str()))

    @property
    def refused(self) -> bool:
        """Whether a broker was there, and did not let us in."""
        return KafkaError._AUTHENTICATION in self._said or self._tls() != ""

    def unavailable(self, bootstrap: str, why: str) -> KafkaUnavailable:
        """The error to raise: whose fault it is, as far as it can be told, and what to look at."""
        if login := self._said.get(KafkaError._AUTHENTICATION):
            return KafkaUnavailable(f"Kafka at {bootstrap} does not let us in ({login}): check {LOGIN}")
        if tls := self._tls():
            return KafkaUnavailable(f"no TLS with Kafka at {bootstrap} ({tls}): check {CERTIFICATES}")
        remedy = "start one (`orchestrator kafka start`) or set ORCHESTRATOR_BOOTSTRAP"
        if self._said.keys() <= {KafkaError._ALL_BROKERS_DOWN} and self._said:
            # Somebody was there, and hung up.
            remedy += "; if it wants TLS or a login, set ORCHESTRATOR_KAFKA_SECURITY_PROTOCOL"
        return KafkaUnavailable(f"no Kafka answers at {bootstrap} ({self._transport() or why}): {remedy}")

    def _transport(self) -> str:
        """Why no connection came about, where librdkafka said more than that none did."""
        return self._said.get(KafkaError._RESOLVE) or self._said.get(KafkaError._TRANSPORT, "")

    def _tls(self) -> str:
        handshake = self._said.get(KafkaError._TRANSPORT, "")
        return self._said.get(KafkaError._SSL, handshake if handshake.startswith("SSL handshake failed") else "")


class Repeats(logging.Filter):
    """Lets what librdkafka says through once in a while: of a broker that is away each client speaks at every attempt,
    eighty times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging."""
        what = _SINCE.sub("", _WHO.sub("", record.getMessage()))
        if record.created < self._said.get(what, 0.0) + AGAIN_S:
            return False
        if len(self._said) >= KEPT:
            self._said.clear()
        self._said[what] = record.created
        return True


def known(offset: int) -> int:
    """An offset that a broker gave. Raises KafkaException if none did.

    librdkafka says "invalid offset" (-1001), and no error, when an answer came too late: taken for the end of a log it
    parked partitions as cut.
    """
    if offset < 0:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no broker gave an offset"))
    return offset
