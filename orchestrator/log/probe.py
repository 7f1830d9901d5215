"""Is a cluster there, and does it take transactions? For whoever starts one."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from orchestrator.errors import KafkaUnavailable

ATTEMPT_S = 1.0
ASK_S = 5.0
HEARD_WITHIN_S = 0.2
TIMED_OUT = (KafkaError.REQUEST_TIMED_OUT, KafkaError._TIMED_OUT)  # noqa: SLF001
STARTING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
TOPIC_PREFIX = "orchestrator.warm-up."
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


def _common(bootstrap: str, options: Mapping[str, str]) -> dict[str, Any]:
    # Level 0: that a starting broker refuses connections is no news.
    return {
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 100,
        "retry.backoff.ms": 5,
        "retry.backoff.max.ms": 50,
        **options,
        "bootstrap.servers": bootstrap,
        "log_level": 0,
        "logger": logging.getLogger(__name__),
    }


def wait_ready(
    bootstrap: str,
    timeout_s: float,
    brokers: int = 1,
    check: Callable[[], None] | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
) -> None:
    """Wait until `brokers` brokers have registered and there is a controller.

    `check` is called between attempts (at most a second apart) and may raise to end the wait; `options` go to
    librdkafka. Raises KafkaUnavailable after `timeout_s` seconds.
    """
    admin = AdminClient(_common(bootstrap, options))
    until = time.monotonic() + timeout_s
    why = "no answer"
    while True:
        if check is not None:
            check()
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise KafkaUnavailable(f"Kafka at {bootstrap} was not ready after {timeout_s:g} s: {why}")
        try:
            seen = len(admin.list_topics(timeout=min(ATTEMPT_S, left_s)).brokers)
        except KafkaException as error:
            why = error.args[0].str()
            continue
        if seen >= brokers:
            return
        why = f"{seen} of {brokers} brokers have registered"
        admin.poll(0.05)


def warm_up_transactions(bootstrap: str, timeout_s: float = 60.0, options: Mapping[str, str] = NO_OPTIONS) -> None:
    """Commit one transaction and find a group's coordinator, so that nobody's first one waits seconds for these.

    The topic that it needs for that is removed again. Raises KafkaUnavailable.
    """

    # Both wait about a second for a topic that the broker creates on demand.
    works = (_with_topic, _find_group_coordinator)
    ends: SimpleQueue[BaseException | None] = SimpleQueue()

    def carry_out(work: Callable[[str, float, Mapping[str, str]], None]) -> None:
        try:
            work(bootstrap, timeout_s, options)
        except BaseException as error:
            ends.put(error)
        else:
            ends.put(None)

    # Whoever is interrupted here does not wait for a broker that may never answer; a pool's threads would be joined.
    for work in works:
        threading.Thread(target=carry_out, args=(work,), name="warm-up", daemon=True).start()
    problems = [end for end in (_next(ends) for _ in works) if end is not None]
    for error in problems:
        if isinstance(error, (KafkaException, TimeoutError)):
            raise _unusable(bootstrap, error) from error
        raise error


def _next(ends: SimpleQueue[BaseException | None]) -> BaseException | None:
    """What comes next. A signal that arrives just before a wait without end begins would not be heard in it."""
    while True:
        with suppress(Empty):
            return ends.get(timeout=HEARD_WITHIN_S)


def exercise(bootstrap: str, timeout_s: float = 60.0, options: Mapping[str, str] = NO_OPTIONS) -> None:
    """What an engine does, once: a transaction, read back by a classic and by a KIP-848 consumer.

    Raises KafkaUnavailable.
    """

    def read(topic: str) -> None:
        for protocol in ("classic", "consumer"):
            _read_one(bootstrap, timeout_s, {**options, "group.protocol": protocol}, topic)

    try:
        _with_topic(bootstrap, timeout_s, options, read)
    except (KafkaException, TimeoutError) as error:
        raise _unusable(bootstrap, error) from error


def _unusable(bootstrap: str, error: Exception) -> KafkaUnavailable:
    why = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
    return KafkaUnavailable(f"Kafka at {bootstrap} did not take a first transaction: {why}; its log says more")


def _with_topic(
    bootstrap: str, timeout_s: float, options: Mapping[str, str], then: Callable[[str], None] | None = None
) -> None:
    """Commit one record to a topic of its own, let `then` use the topic, remove it."""
    admin = AdminClient(_common(bootstrap, options))
    name = TOPIC_PREFIX + uuid.uuid4().hex
    topic = NewTopic(name, 1, -1)
    _ask(admin, timeout_s, KafkaError.TOPIC_ALREADY_EXISTS, lambda: admin.create_topics([topic], request_timeout=ASK_S))
    try:
        _commit_one(bootstrap, timeout_s, options, name)
        if then is not None:
            then(name)
    finally:
        _ask(
            admin,
            timeout_s,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            lambda: admin.delete_topics([name], request_timeout=ASK_S),
        )


def _ask(admin: AdminClient, timeout_s: float, already: int, ask: Callable[[], Mapping[str, Any]]) -> None:
    """Ask for a change until it is made; the error code `already` says that an earlier attempt made it.

    An admin client goes on waiting for a controller that died: only new metadata tells it of the next one.
    """
    until = time.monotonic() + timeout_s
    while True:
        (future,) = ask().values()
        try:
            future.result(2 * ASK_S)
            return
        except (KafkaException, TimeoutError) as error:
            code = error.args[0].code() if isinstance(error, KafkaException) else KafkaError.REQUEST_TIMED_OUT
            if code == already:
                return
            if code not in TIMED_OUT or time.monotonic() > until:
                raise
        admin.list_topics(timeout=ASK_S)


def _commit_one(bootstrap: str, timeout_s: float, options: Mapping[str, str], topic: str) -> None:
    producer = Producer({**_common(bootstrap, options), "linger.ms": 0, "transactional.id": topic})
    producer.init_transactions(timeout_s)
    producer.begin_transaction()
    producer.produce(topic, b"warm", partition=0)
    producer.commit_transaction(timeout_s)


def _find_group_coordinator(bootstrap: str, timeout_s: float, options: Mapping[str, str]) -> None:
    """Asking for a group's offsets makes the broker create the topic that holds them."""
    name = TOPIC_PREFIX + "group"
    consumer = Consumer({**_common(bootstrap, options), "group.id": name})
    until = time.monotonic() + timeout_s
    try:
        while True:
            try:
                consumer.committed([TopicPartition(name, 0)], timeout_s)
                return
            except KafkaException as error:
                # A slow broker is named as the coordinator before it has become it.
                if error.args[0].code() not in STARTING or time.monotonic() > until:
                    raise
            time.sleep(0.02)
    finally:
        consumer.close()


def _read_one(bootstrap: str, timeout_s: float, options: Mapping[str, str], topic: str) -> None:
    consumer = Consumer(
        {
            **_common(bootstrap, options),
            "group.id": f"{topic}.{options['group.protocol']}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    try:
        consumer.subscribe([topic])
        for message in consumer.consume(1, timeout_s):
            if message.error() is not None:
                raise KafkaException(message.error())
            consumer.commit(message=message, asynchronous=False)
    finally:
        consumer.close()
