"""Events of the application as callers see them: sent, listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.core.commands import SendEvent
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload
from orchestrator.core.waits import PREFIX
from orchestrator.errors import ConfigurationError

from .calls import Calls
from .requests import NO_REQUEST, Request
from .views import json_object


class KeptEvent(NamedTuple):
    """A recent event of a topic. `sent_at_ms` is of the log's clock."""

    id: str
    sent_at_ms: int
    payload: Any
    actor: Mapping[str, Any]


class TopicDescription(NamedTuple):
    """What is kept of a topic, oldest first, and how many waits no event has come for (`waiting`)."""

    name: str
    waiting: int
    events: tuple[KeptEvent, ...]


async def send_event(calls: Calls, name: str, payload: Payload, request: Request = NO_REQUEST) -> Reply:
    """Send an event; the request's command id is the event's."""
    if not name or "\x00" in name:
        raise ConfigurationError(f"event {name!r}: its name is a non-empty text without NUL")
    return await calls.caller.command(PREFIX + name, SendEvent(payload), request)


async def list_events(calls: Calls, name: str) -> TopicDescription:
    """The newest thousand events that a topic's partition keeps."""
    raw = json_object(await calls.ask(PREFIX + name, "events"), f"the events of {name}")
    kept = tuple(KeptEvent(one["id"], one["sent_at_ms"], one["payload"], one["actor"]) for one in raw["events"])
    return TopicDescription(name, raw["waiting"], kept)
