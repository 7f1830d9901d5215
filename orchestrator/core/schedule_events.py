"""What happened to a schedule: records of its partition, `seq` 0. One record type each."""

from __future__ import annotations

from typing import NamedTuple

from .calendars import ScheduleSpec
from .schedules import Due, ScheduleAction, SchedulePolicy
from .values import Actor


class ScheduleCreated(NamedTuple):
    """A schedule exists. `due` is when it fires first."""

    spec: ScheduleSpec
    action: ScheduleAction
    policy: SchedulePolicy
    paused: bool
    note: str
    due: Due
    actor: Actor = Actor()


class SchedulePaused(NamedTuple):
    """It fires no more, or (`paused` False) fires again from now on."""

    paused: bool
    note: str
    due: Due
    actor: Actor = Actor()


class ScheduleFired(NamedTuple):
    """A time came. `outcome`: started, skipped, buffered or missed; `due` is the next one, or the same as before.

    A started firing's run is asked for by a command with an id of schedule and nominal time: it starts once.
    `ends` says what is asked of the runs that still work: nothing, cancel or terminate.
    """

    nominal_ms: int
    outcome: str
    due: Due
    ends: str = ""


class ScheduleRunEnded(NamedTuple):
    """The run of a firing has closed."""

    nominal_ms: int
    outcome: str


class ScheduleDeleted(NamedTuple):
    """A schedule is forgotten."""

    actor: Actor = Actor()
