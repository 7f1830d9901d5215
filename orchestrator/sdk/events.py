"""Events of the application: sent once, heard by every run that waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

from ..codec.payloads import Adapter, adapter
from ..core.events import EventDelivered
from ..core.values import NOTHING, Payload
from ..core.waits import EVENT_BYTES, KEPT_MS
from ..errors import ConfigurationError, LimitExceeded
from .calls import EventCalled, publish_event
from .messages import inside, mailbox

T = TypeVar("T")

LOOK_BACK = timedelta(minutes=5)
"""How far back a wait looks unless it says otherwise."""

Match = Mapping[str, Any]


class Event(Generic[T]):
    """An event of the application, by its topic's name. It reaches every run that waits for it and whose match fits."""

    def __init__(self, name: str, hint: type[T]) -> None:
        if not name or "\x00" in name:
            raise ConfigurationError(f"event {name!r}: its name is a non-empty text without NUL")
        self.name = name
        self.adapter: Adapter[T] = adapter(hint)

    @overload
    async def wait(self, *, match: Match | None = ..., since: timedelta = ...) -> T: ...
    @overload
    async def wait(self, *, match: Match | None = ..., timeout: timedelta, since: timedelta = ...) -> T | None: ...
    async def wait(
        self, *, match: Match | None = None, timeout: timedelta | None = None, since: timedelta = LOOK_BACK
    ) -> T | None:
        """The next event whose fields equal those of `match`; None when `timeout` (durable) is over first.

        It looks back by `since` (at most an hour), so that an event that came just before is not missed. One that
        an earlier wait of this run with the same match got is not given again.
        """
        delivered = await self._delivered(_payload(match, self.name), timeout, since)
        return None if delivered is None else self.adapter.decode(delivered.payload)

    def send(self, value: T) -> None:
        """From workflow code: send the event, once this turn is on the log. A client has `send_event`.

        Raises DoesNotRoundTrip, and LimitExceeded above 256 KiB.
        """
        payload, _ = self.adapter.round_trip(value, f"event {self.name}")
        if len(payload.data) > EVENT_BYTES:
            raise LimitExceeded(
                f"event {self.name}: {len(payload.data)} bytes, the limit is {EVENT_BYTES}."
                " Send a reference to large data, not the data."
            )
        publish_event(inside(f"event {self.name}.send()"), self.name, payload)

    async def _delivered(self, match: Payload, timeout: timedelta | None, since: timedelta) -> EventDelivered | None:
        loop = inside(f"event {self.name}.wait()")
        look_back_ms = round(since.total_seconds() * 1000)
        if not 0 <= look_back_ms <= KEPT_MS:
            raise ConfigurationError(
                f"event {self.name}: since={since}: events are kept for {KEPT_MS // 60_000} minutes"
            )
        seen, key = mailbox(loop).seen, (self.name, match.data)
        try:
            async with asyncio.timeout(None if timeout is None else timeout.total_seconds()) as limit:
                found: EventDelivered = await EventCalled(loop, self.name, match, look_back_ms, seen.get(key, 0))
        except TimeoutError:
            if timeout is not None and limit.expired():
                return None
            raise
        seen[key] = max(seen.get(key, 0), found.number)
        return found


@overload
async def wait_event(name: str, match: Match | None = ..., *, since: timedelta = ...) -> Any: ...
@overload
async def wait_event(name: str, match: Match | None = ..., *, timeout: timedelta, since: timedelta = ...) -> Any: ...
async def wait_event(
    name: str, match: Match | None = None, *, timeout: timedelta | None = None, since: timedelta = LOOK_BACK
) -> Any:
    """From workflow code: the next event of a topic as plain JSON; `app.event(name, type)` makes a typed one.

    See `Event.wait`.
    """
    event: Event[Any] = Event(name, Any)
    if timeout is None:
        return await event.wait(match=match, since=since)
    return await event.wait(match=match, timeout=timeout, since=since)


def _payload(match: Match | None, name: str) -> Payload:
    """The match, its fields in order, so that equal ones are equal bytes."""
    if not match:
        return NOTHING
    fields = {field: match[field] for field in sorted(match)}
    payload, _ = adapter(dict[str, Any]).round_trip(fields, f"match of event {name}", loose=True)
    return payload
