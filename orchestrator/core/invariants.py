"""Laws of a run's history that are checked on every event, live and at restore (I2, I4)."""

from __future__ import annotations

from ..errors import LogGap
from .events import Event
from .rows import RunRow

CLOSED = frozenset({"completed", "failed", "cancelled", "terminated", "continued_as_new"})


def check_follows(event: Event, run: RunRow | None) -> None:
    """`event` must be the next of its run's history. Raises LogGap naming the run and what is missing."""
    if run is None:
        raise _gap(event, "the run's beginning is not on this log")
    if event.seq != run.seq + 1:
        raise _gap(event, f"the event before it has seq {run.seq}; run `orchestrator audit verify` on this partition")
    if event.prev_hash != run.head_hash:
        raise _gap(event, "its prev_hash is not the hash of the event before it; the history was altered")
    if run.status in CLOSED:
        raise _gap(event, f"it follows the terminal event of a run that is {run.status}")


def check_begins(event: Event, run: RunRow | None) -> None:
    """`event` begins a run that is not in the state. Raises LogGap naming the run and what there is of it."""
    if run is not None:
        raise _gap(event, f"the run has begun before and is {run.status}; one run begins once")
    if event.seq != 1:
        raise _gap(event, "a run begins with seq 1")


def _gap(event: Event, what: str) -> LogGap:
    return LogGap(f"{event.workflow_id}/{event.run_id} seq {event.seq} ({type(event.body).__name__}): {what}")
