"""Decisions about events of the application: which waits an event fits, which event a wait finds."""

from __future__ import annotations

from ..commands import Command, DeliverEvent, FireTimer, SendEvent, SubscribeEvent, UnsubscribeEvent
from ..events import (
    EventDelivered,
    EventMatched,
    EventSent,
    EventsExpired,
    EventSubscribed,
    EventUnsubscribed,
)
from ..rows import EVENTS, STEPS, TopicEventRow, TopicRow, WaitRow, step_key
from ..values import ParentRef, Payload
from ..waits import (
    EVENT_BYTES,
    HANDED_AT_ONCE,
    HANDED_BYTES,
    KEPT_MS,
    LOOKED_AT_ONCE,
    NOBODY,
    PREFIX,
    fields_of,
    has,
    subscription_key,
    topic_event_key,
    topic_key,
    waiter_of,
)
from .decision import Context, Draft, View, accepted, caused, rejected


def send_event(view: View, command: Command, body: SendEvent, context: Context) -> list[Draft]:
    """Keep the event, and hand it to every wait that it fits."""
    name = command.workflow_id
    if not name.startswith(PREFIX) or name == PREFIX:
        return rejected(command, context, "bad_request", f"a topic's key is {PREFIX!r} and its name, not {name!r}")
    if len(body.payload.data) > EVENT_BYTES:
        message = f"{name}: {len(body.payload.data)} bytes; an event has at most {EVENT_BYTES}: send a reference"
        return rejected(command, context, "too_large", message)
    row: TopicRow = view.get(EVENTS, topic_key(name)) or TopicRow()
    number = max(context.now_ms, row.last + 1)
    sent = EventSent(command.id, number, body.payload, command.actor)
    matched = None if row.matching else _matched(view, name, number, body.payload, NOBODY)
    drafts = [Draft(name, "", sent, caused(command, context))]
    if matched is not None and (matched.waiters or matched.rest != NOBODY):
        drafts.append(Draft(name, "", matched))
    return drafts


def go_on(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """The next waits are compared with the event that has come to them."""
    row: TopicRow | None = view.get(EVENTS, topic_key(workflow_id))
    if row is None or not row.matching:
        return []
    kept: TopicEventRow | None = view.get(EVENTS, topic_event_key(workflow_id, row.matching))
    if kept is None:
        return [Draft(workflow_id, "", EventMatched(row.matching, ()))]
    return [Draft(workflow_id, "", _matched(view, workflow_id, row.matching, kept.payload, row.at))]


def _matched(view: View, name: str, number: int, payload: Payload, at: ParentRef) -> EventMatched:
    """The waits behind `at` that an event fits, as many as one decision hands out."""
    found = fields_of(payload)
    most = max(1, min(HANDED_AT_ONCE, HANDED_BYTES // max(1, len(payload.data))))
    waiters: list[ParentRef] = []
    after = None if at == NOBODY else subscription_key(name, at)
    for looked, (key, one) in enumerate(view.scan(EVENTS, subscription_key(name, NOBODY)[:2], after=after), 1):
        if one.above < number and has(fields_of(one.match), found):
            waiters.append(waiter_of(key))
        if len(waiters) == most or looked == LOOKED_AT_ONCE:
            return EventMatched(number, tuple(waiters), waiter_of(key))
    return EventMatched(number, tuple(waiters))


def subscribe_event(view: View, command: Command, body: SubscribeEvent, context: Context) -> list[Draft]:
    """The oldest event that is kept and fits is the one; else the wait is kept."""
    name = command.workflow_id
    drafts = [Draft(name, "", EventSubscribed(body.waiter, body.match), caused(command, context))]
    # A number is never below the moment of its event.
    after = topic_event_key(name, max(body.after, body.since_ms - 1, 0))
    wanted = fields_of(body.match)
    for key, kept in view.scan(EVENTS, topic_event_key(name, 0)[:2], after=after):
        if kept.at_ms >= body.since_ms and has(wanted, fields_of(kept.payload)):
            return [*drafts, Draft(name, "", EventMatched(int(key[2]), (body.waiter,), compared=False))]
    return drafts


def unsubscribe_event(view: View, command: Command, body: UnsubscribeEvent, context: Context) -> list[Draft]:
    """An event may have come first: then there is nothing to forget."""
    name = command.workflow_id
    if view.get(EVENTS, subscription_key(name, body.waiter)) is None:
        return accepted(command, context, "nothing", "the wait is over already", "")
    return [Draft(name, "", EventUnsubscribed(body.waiter), caused(command, context))]


def deliver_event(view: View, command: Command, body: DeliverEvent, context: Context) -> list[Draft]:
    """An event for a run that waits no longer is a recorded rejection."""
    row = view.get(STEPS, step_key(command.workflow_id, body.run_id, body.wait))
    if not isinstance(row, WaitRow):
        message = f"{command.workflow_id}/{body.run_id} waits for no event at {body.wait} any more"
        return rejected(command, context, "stale_attempt", message, body.run_id)
    delivered = EventDelivered(*body[1:])
    return [Draft(command.workflow_id, body.run_id, delivered, caused(command, context))]


def expired(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """The oldest events of a topic were kept for long enough. If their number sent them away before, the next ones'
    time is set."""
    if view.get(EVENTS, topic_key(workflow_id)) is None:
        return []
    upto = 0
    for key, kept in view.scan(EVENTS, topic_event_key(workflow_id, 0)[:2]):
        if kept.at_ms + KEPT_MS > context.now_ms:
            break
        upto = int(key[2])
    return [Draft(workflow_id, "", EventsExpired(upto))]
