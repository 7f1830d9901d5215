"""How events of the application change their topic's rows, and the rows of runs that wait."""

from __future__ import annotations

from typing import Any

from .. import ids
from ..commands import DeliverEvent, SendEvent, SubscribeEvent, UnsubscribeEvent
from ..events import (
    EventAwaited,
    EventDelivered,
    EventMatched,
    EventPublished,
    EventSent,
    EventsExpired,
    EventSubscribed,
    EventUnsubscribed,
    WaitCancelled,
    WaitRestarted,
)
from ..rows import (
    EVENTS,
    HISTORY,
    STEPS,
    RunRow,
    SubscriptionRow,
    TopicEventRow,
    TopicRow,
    WaitRow,
    history_key,
    step_key,
)
from ..values import ParentRef
from ..waits import KEPT_EVENTS, KEPT_MS, NOBODY, PREFIX, subscription_key, topic_event_key, topic_key
from .fold import Fold

Fields = dict[str, Any]
EXPIRE = "events"
MATCH = "events-match"


def event_sent(fold: Fold, body: EventSent) -> None:
    name, now = fold.event.workflow_id, fold.event.recorded_at_ms
    topic: TopicRow = fold.state.get(EVENTS, topic_key(name)) or TopicRow()
    if not topic.kept:
        fold.set_timer(EXPIRE, "", now + KEPT_MS)
    if topic.kept >= KEPT_EVENTS:
        oldest, _ = next(fold.state.scan(EVENTS, topic_event_key(name, 0)[:2]))
        fold.state.put(EVENTS, oldest, None)
        topic = topic._replace(kept=topic.kept - 1)
    fold.state.put(EVENTS, topic_key(name), topic._replace(last=body.number, kept=topic.kept + 1))
    row = TopicEventRow(body.event_id, now, body.payload, body.actor)
    fold.state.put(EVENTS, topic_event_key(name, body.number), row)


def event_subscribed(fold: Fold, body: EventSubscribed) -> None:
    name = fold.event.workflow_id
    topic: TopicRow | None = fold.state.get(EVENTS, topic_key(name))
    if topic is None:
        topic = TopicRow()
        fold.state.put(EVENTS, topic_key(name), topic)
    fold.state.put(EVENTS, subscription_key(name, body.waiter), SubscriptionRow(body.match, topic.last))


def event_matched(fold: Fold, body: EventMatched) -> None:
    name = fold.event.workflow_id
    kept: TopicEventRow | None = fold.state.get(EVENTS, topic_event_key(name, body.number))
    for waiter in body.waiters:
        assert kept is not None, "only an event that is kept is handed out"
        fold.state.put(EVENTS, subscription_key(name, waiter), None)
        deliver = DeliverEvent(waiter.run_id, waiter.step, kept.id, body.number, kept.at_ms, kept.payload, kept.actor)
        # One wait gets one event: its place is what makes the id.
        command_id = f"{name}/{body.number}/{waiter.run_id}/{waiter.step}"
        fold.send_command(waiter.workflow_id, deliver, command_id=command_id)
    if body.compared:
        _go_on(fold, body)


def _go_on(fold: Fold, body: EventMatched) -> None:
    """The waits behind those come next; then those of the next event."""
    name = fold.event.workflow_id
    topic: TopicRow = fold.state.get(EVENTS, topic_key(name))
    number = body.number
    if body.rest == NOBODY:
        later = fold.state.scan(EVENTS, topic_event_key(name, 0)[:2], after=topic_event_key(name, number))
        number = next((int(key[2]) for key, _ in later), 0)
    fold.state.put(EVENTS, topic_key(name), topic._replace(matching=number, at=body.rest))
    fold.clear_timer(f"{MATCH}|")
    if number:
        fold.set_timer(MATCH, "", fold.event.recorded_at_ms)
    else:
        _forget_idle(fold, name)


def event_unsubscribed(fold: Fold, body: EventUnsubscribed) -> None:
    name = fold.event.workflow_id
    fold.state.put(EVENTS, subscription_key(name, body.waiter), None)
    _forget_idle(fold, name)


def events_expired(fold: Fold, body: EventsExpired) -> None:
    name = fold.event.workflow_id
    topic: TopicRow = fold.state.get(EVENTS, topic_key(name))
    gone = 0
    fold.clear_timer(f"{EXPIRE}|")
    for key, kept in list(fold.state.scan(EVENTS, topic_event_key(name, 0)[:2])):
        if int(key[2]) > body.upto:
            fold.set_timer(EXPIRE, "", kept.at_ms + KEPT_MS)
            break
        fold.state.put(EVENTS, key, None)
        gone += 1
    fold.state.put(EVENTS, topic_key(name), topic._replace(kept=topic.kept - gone))
    _forget_idle(fold, name)


def _forget_idle(fold: Fold, name: str) -> None:
    topic: TopicRow | None = fold.state.get(EVENTS, topic_key(name))
    busy = topic is not None and (topic.kept or topic.matching)
    if not busy and next(fold.state.scan(EVENTS, (2, name)), None) is None:
        fold.state.put(EVENTS, topic_key(name), None)


def event_awaited(fold: Fold, run: RunRow, body: EventAwaited) -> Fields:
    event = fold.event
    wait = ids.step_id(body.path, body.n)
    fold.state.put(STEPS, step_key(event.workflow_id, event.run_id, wait), WaitRow(body.name, body.match, event.seq))
    _subscribe(fold, wait, body)
    return {"pending_waits": run.pending_waits + 1}


def wait_restarted(fold: Fold, run: RunRow, body: WaitRestarted) -> Fields:
    event = fold.event
    row: WaitRow = fold.state.get(STEPS, step_key(event.workflow_id, event.run_id, body.wait))
    awaited = fold.state.get(HISTORY, history_key(event.workflow_id, event.run_id, row.scheduled_seq))
    _subscribe(fold, body.wait, awaited.event.body)
    return {}


def _subscribe(fold: Fold, wait: str, body: EventAwaited) -> None:
    waiter = ParentRef(fold.event.workflow_id, fold.event.run_id, wait)
    fold.send_command(PREFIX + body.name, SubscribeEvent(waiter, body.match, body.since_ms, body.after))


def event_published(fold: Fold, run: RunRow, body: EventPublished) -> Fields:
    fold.send_command(PREFIX + body.name, SendEvent(body.payload))
    return {}


def event_delivered(fold: Fold, run: RunRow, body: EventDelivered) -> Fields:
    fold.state.put(STEPS, step_key(fold.event.workflow_id, fold.event.run_id, body.wait), None)
    return {"pending_waits": run.pending_waits - 1}


def wait_cancelled(fold: Fold, run: RunRow, body: WaitCancelled) -> Fields:
    key = step_key(fold.event.workflow_id, fold.event.run_id, body.wait)
    forget(fold, body.wait, fold.state.get(STEPS, key))
    fold.state.put(STEPS, key, None)
    return {"pending_waits": run.pending_waits - 1}


def forget(fold: Fold, wait: str, row: WaitRow) -> None:
    """Tell the topic that the run no longer waits."""
    waiter = ParentRef(fold.event.workflow_id, fold.event.run_id, wait)
    fold.send_command(PREFIX + row.topic, UnsubscribeEvent(waiter))
