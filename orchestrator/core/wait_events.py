"""What happened to events of the application: records of a topic's partition (`seq` 0), and of runs that wait."""

from __future__ import annotations

from typing import NamedTuple

from .values import NOTHING, Actor, ParentRef, Payload
from .waits import NOBODY

# --- of a topic


class EventSent(NamedTuple):
    """An event of a topic. `number` grows from one to the next."""

    event_id: str
    number: int
    payload: Payload
    actor: Actor = Actor()


class EventSubscribed(NamedTuple):
    """A run waits for an event that fits."""

    waiter: ParentRef
    match: Payload


class EventMatched(NamedTuple):
    """These waits get the event of that number, and wait no longer. `compared`: the waits before
    `rest` were compared with it, and those behind it are not yet (all were, if it is nobody)."""

    number: int
    waiters: tuple[ParentRef, ...]
    rest: ParentRef = NOBODY
    compared: bool = True


class EventUnsubscribed(NamedTuple):
    """A run no longer waits."""

    waiter: ParentRef


class EventsExpired(NamedTuple):
    """Events up to that number are kept no longer."""

    upto: int


# --- of a run


class EventAwaited(NamedTuple):
    """Workflow code waits for an event of a topic, from `since_ms` on (log clock), with a number above `after`."""

    turn: int
    path: str
    n: int
    name: str
    match: Payload
    since_ms: int
    after: int
    call_site: str


class EventDelivered(NamedTuple):
    """The event that a wait was for. `number` and `sent_at_ms` are its topic's."""

    wait: str
    event_id: str
    number: int
    sent_at_ms: int
    payload: Payload = NOTHING
    sender: Actor = Actor()


class EventPublished(NamedTuple):
    """An event of a topic left by the outbox."""

    turn: int
    path: str
    n: int
    name: str
    payload: Payload
    call_site: str


class WaitCancelled(NamedTuple):
    """Workflow code no longer waits for an event: its time is over, or it was cancelled."""

    turn: int
    wait: str


class WaitRestarted(NamedTuple):
    """A wait without an event where its run was forked: the new run tells the topic of it."""

    wait: str
