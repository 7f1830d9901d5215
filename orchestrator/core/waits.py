"""Events of the application that runs wait for: what is kept of a topic, who waits, and what fits.

A topic's state lies in the partition of its key `event/NAME`, which stands in the place of a workflow id.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .values import NOTHING, Actor, ParentRef, Payload

NOBODY = ParentRef("", "", "")

PREFIX = "event/"
"""Before a topic's name in the key of its commands and records."""

KEPT_MS = 3_600_000
"""How long an event is kept for waits that look back."""

KEPT_EVENTS = 10_000
"""How many events of a topic are kept, the newest ones: a wait looks them through."""

EVENT_BYTES = 256 * 1024
"""Largest payload of an event: every wait that it fits gets a copy."""

HANDED_AT_ONCE = 1_000
"""How many waits one decision hands an event to."""

HANDED_BYTES = 1_000_000
"""How many bytes of payload one decision hands out, if that is more than one copy."""

LOOKED_AT_ONCE = 5_000
"""How many waits one decision compares with an event."""

HEARD = 2_000
"""How many of what its waits got a run passes on when it continues as new, the newest."""


class Heard(NamedTuple):
    """The newest event that the waits of a topic and a match got. `number` is the topic's."""

    name: str
    match: Payload
    number: int


class TopicRow(NamedTuple):
    """A topic. `last` is the number of its newest event: ms of the log's clock, made to grow. `kept`: how many are.

    `matching` is the number of the event whose waits are not all compared yet, and `at` the last that was; 0: none.
    """

    last: int = 0
    kept: int = 0
    matching: int = 0
    at: ParentRef = NOBODY


class TopicEventRow(NamedTuple):
    """A recent event of a topic."""

    id: str
    at_ms: int
    payload: Payload
    actor: Actor = Actor()


class SubscriptionRow(NamedTuple):
    """A wait of a run that no event has come for yet. Those up to number `above` were looked through as it came."""

    match: Payload
    above: int = 0


class WaitRow(NamedTuple):
    """A wait as its run's partition has it, beside the run's steps."""

    topic: str
    match: Payload
    scheduled_seq: int


def topic_key(name: str) -> tuple[str | int, ...]:
    """Key of a TopicRow in EVENTS; `name` is the prefix and the topic's name, as in its commands."""
    return (0, name)


def topic_event_key(name: str, number: int) -> tuple[str | int, ...]:
    """Key of a TopicEventRow in EVENTS, oldest first."""
    return (1, name, number)


def subscription_key(name: str, waiter: ParentRef) -> tuple[str | int, ...]:
    """Key of a SubscriptionRow in EVENTS."""
    return (2, name, waiter.workflow_id, waiter.run_id, waiter.step)


def waiter_of(key: tuple[str | int, ...]) -> ParentRef:
    """The wait that a subscription's key names."""
    return ParentRef(str(key[2]), str(key[3]), str(key[4]))


def has(wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether all that is wanted is found, with equal values; nothing wanted is found in everything.

    A payload that the engine cannot read (encrypted, or in a blob) has no fields.
    """
    return all(name in found and _equal(value, found[name]) for name, value in wanted.items())


def _equal(one: Any, other: Any) -> bool:
    try:
        # In Python True equals 1; in JSON it does not.
        return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
    except RecursionError:
        return False


def fields_of(payload: Payload) -> dict[str, Any]:
    """Fields of a payload that is a JSON object; of any other, and of what is no JSON, none."""
    if payload == NOTHING or payload.codec != "json" or payload.key_id or payload.blob is not None:
        return {}
    try:
        value = json.loads(payload.data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
