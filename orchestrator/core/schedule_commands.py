"""Commands to a schedule, whose key stands in the place of a workflow id."""

from __future__ import annotations

from typing import NamedTuple

from .calendars import ScheduleSpec
from .schedules import ScheduleAction, SchedulePolicy


class CreateSchedule(NamedTuple):
    """Make a schedule. Its key, in the place of a workflow id, is `schedule/` and its id."""

    spec: ScheduleSpec
    action: ScheduleAction
    policy: SchedulePolicy = SchedulePolicy()
    paused: bool = False
    note: str = ""


class PauseSchedule(NamedTuple):
    """Stop firing, or (`paused` False) go on from now, with a note for people."""

    paused: bool = True
    note: str = ""


class TriggerSchedule(NamedTuple):
    """Fire once now, by the schedule's overlap policy or another one."""

    overlap: str = ""


class BackfillSchedule(NamedTuple):
    """Fire for every nominal time in a range of the past, in ms, both ends included."""

    start_ms: int
    end_ms: int
    overlap: str = "allow_all"


class DeleteSchedule(NamedTuple):
    """Forget a schedule. Runs that it started go on."""
