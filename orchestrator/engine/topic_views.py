"""Events of the application as JSON: what a topic's partition answers."""

from __future__ import annotations

from collections import deque

from ..core.decide.decision import View
from ..core.rows import EVENTS
from ..core.waits import topic_event_key
from .views import Json, payload_view

SHOWN = 1_000
SHOWN_BYTES = 500_000


def topic_view(view: View, name: str) -> Json:
    """The newest events that are kept of a topic, oldest first, and how many waits no event has come for."""
    kept = deque(view.scan(EVENTS, topic_event_key(name, 0)[:2]), SHOWN)
    events: list[Json] = []
    size = 0
    for _, row in reversed(kept):
        size += len(row.payload.data)
        if events and size > SHOWN_BYTES:
            break
        events.append(
            {
                "id": row.id,
                "sent_at_ms": row.at_ms,
                "payload": payload_view(row.payload),
                "actor": row.actor._asdict(),
            }
        )
    waiting = sum(1 for _ in view.scan(EVENTS, (2, name)))
    return {"events": events[::-1], "waiting": waiting}
