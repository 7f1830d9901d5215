"""Commands about events of the application. `commands.py` names all commands."""

from __future__ import annotations

from typing import NamedTuple

from .values import NOTHING, Actor, ParentRef, Payload


class SendEvent(NamedTuple):
    """An event for every run that waits for it. In the place of a workflow id stands `event/` and the topic's name.

    The command's id is the event's: a second one is a duplicate.
    """

    payload: Payload = NOTHING


class SubscribeEvent(NamedTuple):
    """A run waits for an event of this topic; sent by its engine.

    Kept events fit from `since_ms` on, and only those with a number above `after`.
    """

    waiter: ParentRef
    match: Payload = NOTHING
    since_ms: int = 0
    after: int = 0


class UnsubscribeEvent(NamedTuple):
    """A run no longer waits; sent by its engine."""

    waiter: ParentRef


class DeliverEvent(NamedTuple):
    """An event that fits a run's wait; sent by the engine of the topic."""

    run_id: str
    wait: str
    event_id: str
    number: int
    sent_at_ms: int
    payload: Payload = NOTHING
    sender: Actor = Actor()


class AwaitEvent(NamedTuple):
    """Workflow code waits for an event of a topic."""

    path: str
    n: int
    name: str
    match: Payload
    since_ms: int
    after: int
    call_site: str


class PublishEvent(NamedTuple):
    """Workflow code sends an event, by outbox."""

    path: str
    n: int
    name: str
    payload: Payload
    call_site: str


class CancelWait(NamedTuple):
    """Workflow code no longer waits for an event."""

    wait: str
