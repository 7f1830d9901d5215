"""Schedules: what they start, by which rules, and what is known of one. State of their own partition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from .calendars import ScheduleSpec
from .values import NOTHING, Payload

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PREFIX = "schedule/"
"""Before a schedule's id in the key of its commands and events: it hashes like a workflow id."""

OVERLAPS = ("skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all")
MAX_BUFFERED = 1_000
RECENT = 10


class ScheduleAction(NamedTuple):
    """The run that a firing starts. Its workflow id is `workflow_id` (or the schedule's id), `-` and the time."""

    workflow_type: str
    arguments: Payload = NOTHING
    workflow_id: str = ""
    version: int = 0
    execution_timeout_ms: int = 0
    run_timeout_ms: int = 0


class SchedulePolicy(NamedTuple):
    """Temporal's words. `overlap`: what happens when the last run still works (one of OVERLAPS).

    Firings that were missed by more than `catchup_window_ms` are left out.
    """

    overlap: str = "skip"
    catchup_window_ms: int = 365 * 86_400_000


class Firing(NamedTuple):
    """One time that came. `outcome`: started, skipped, buffered, missed, completed, failed, ..."""

    nominal_ms: int
    at_ms: int
    workflow_id: str
    outcome: str


class Due(NamedTuple):
    """When a schedule is due next: the nominal time and, with jitter, the real one; 0 when never."""

    nominal_ms: int = 0
    at_ms: int = 0


class ScheduleRow(NamedTuple):
    """A schedule. `running` and `buffered` are nominal times; `recent` the last firings, newest last."""

    spec: ScheduleSpec
    action: ScheduleAction
    policy: SchedulePolicy
    paused: bool
    note: str
    created_at_ms: int
    due: Due
    running: tuple[int, ...] = ()
    buffered: tuple[int, ...] = ()
    started: int = 0
    skipped: int = 0
    recent: tuple[Firing, ...] = ()


def run_workflow_id(schedule_id: str, action: ScheduleAction, nominal_ms: int) -> str:
    """The workflow id of a firing: the same at every attempt to start it."""
    at = EPOCH + timedelta(milliseconds=nominal_ms)
    fraction = f".{nominal_ms % 1000:03d}" if nominal_ms % 1000 else ""
    return f"{action.workflow_id or schedule_id}-{at:%Y%m%dT%H%M%S}{fraction}Z"
