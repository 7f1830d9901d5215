"""Large values, which lie beside the log: whether those that an event names are there, and unchanged."""

from __future__ import annotations

from ..core.events import Event
from ..core.large import named
from ..errors import BlobError
from ..store.blobs import Blobs


def looked_at(event: Event, blobs: Blobs) -> tuple[int, list[str]]:
    """How many blobs an event names, and what is wrong with them."""
    counted, problems = 0, []
    for field, ref in named(event.body):
        counted += 1
        try:
            blobs.get(ref)
        except BlobError as error:
            what = f"{event.workflow_id}/{event.run_id}, {field} of {type(event.body).__name__}"
            problems.append(f"{what}: {error}")
    return counted, problems
