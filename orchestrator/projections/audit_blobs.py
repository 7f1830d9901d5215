"""Large results, which lie beside the log: where an event names one."""

from __future__ import annotations

from ..core.events import DeadLettered, Event
from ..core.values import BlobRef, Payload


def blob_of(event: Event) -> BlobRef | None:
    """The blob that an event names; None: it names none."""
    body = event.body
    held = body.value if isinstance(body, DeadLettered) else getattr(body, "result", None)
    return held.blob if isinstance(held, Payload) else None
