"""Schedules as callers see them: made, listed, paused, triggered, back-filled, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, ParamSpec

from orchestrator.core import commands as c
from orchestrator.core.calendars import Calendar, Interval, ScheduleSpec, check
from orchestrator.core.schedules import PREFIX, ScheduleAction, SchedulePolicy
from orchestrator.core.tasks import Reply
from orchestrator.errors import ConfigurationError
from orchestrator.sdk.workflow import Workflow

from .calls import Calls
from .code import start_of
from .requests import NO_REQUEST, Request
from .views import JsonObject, json_object

P = ParamSpec("P")

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a schedule is due, and what happens when its last run still works.

    It is due whenever one of `cron`, `every` and `calendars` is, in `timezone`, from `start` to `end`; `jitter` delays
    each firing by up to that much. Firings missed by more than `catchup_window` (engines were down) are left out.
    """

    cron: str | tuple[str, ...] = ()
    every: timedelta | tuple[timedelta, ...] = ()
    calendars: tuple[Calendar, ...] = ()
    timezone: str = "UTC"
    jitter: timedelta = timedelta()
    start: datetime | None = None
    end: datetime | None = None
    overlap: Overlap = "skip"
    catchup_window: timedelta = timedelta(days=365)
    paused: bool = False
    note: str = ""

    def spec(self) -> ScheduleSpec:
        """As it is recorded. Raises ConfigurationError naming what is wrong."""
        crons = (self.cron,) if isinstance(self.cron, str) else self.cron
        every = (self.every,) if isinstance(self.every, timedelta) else self.every
        intervals = tuple(Interval(_ms(one)) for one in every)
        bounds = (_at(self.start), _at(self.end))
        spec = ScheduleSpec(crons, intervals, self.calendars, self.timezone, _ms(self.jitter), *bounds)
        check(spec)
        return spec


class ScheduleDescription(NamedTuple):
    """A schedule as its partition has it. Times in ms, 0 none; `raw` holds all of it."""

    id: str
    workflow_type: str
    paused: bool
    note: str
    next_at_ms: int
    running: tuple[str, ...]
    started: int
    skipped: int
    raw: JsonObject


class ScheduleHandle:
    """One schedule, by its id. Every method returns once its effect is durable; raises CommandRejected."""

    def __init__(self, calls: Calls, id: str, request: Request = NO_REQUEST) -> None:
        self.id = id
        self._calls = calls
        self._request = request

    async def describe(self) -> ScheduleDescription:
        """When it is due next, what runs, what came of the last firings."""
        reply = await self._calls.ask(PREFIX + self.id, "schedule")
        return description(json_object(reply, f"schedule {self.id}"))

    async def pause(self, note: str = "") -> Reply:
        """Fire no more until `resume`."""
        return await self._send(c.PauseSchedule(True, note))

    async def resume(self, note: str = "") -> Reply:
        """Fire again from now on; what came due meanwhile is left out."""
        return await self._send(c.PauseSchedule(False, note))

    async def trigger(self, overlap: Overlap | Literal[""] = "") -> Reply:
        """Fire once now, also when paused."""
        return await self._send(c.TriggerSchedule(overlap))

    async def backfill(self, start: datetime, end: datetime, overlap: Overlap = "allow_all") -> Reply:
        """Fire for every time that lies in a range of the past."""
        return await self._send(c.BackfillSchedule(_at(start), _at(end), overlap))

    async def delete(self) -> Reply:
        """Forget it. Runs that it started go on."""
        return await self._send(c.DeleteSchedule())

    async def _send(self, body: c.TopicCommand) -> Reply:
        return await self._calls.caller.command(PREFIX + self.id, body, self._request)


class Schedules:
    """The application's schedules."""

    def __init__(self, calls: Calls, request: Request = NO_REQUEST) -> None:
        self._calls = calls
        self._request = request

    async def create(
        self, id: str, schedule: Schedule, workflow: Workflow[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> ScheduleHandle:
        """Make a schedule that starts `workflow` with these arguments; time-outs come from `workflow.options(...)`.

        Its runs' workflow ids are the option `id` (or the schedule's id), `-` and the nominal time. Raises
        ConfigurationError, CommandRejected when the id is taken.
        """
        if not id:
            raise ConfigurationError("a schedule's id is a non-empty text")
        start = start_of(workflow, args, kwargs)
        prefix = workflow.start_options.id
        action = ScheduleAction(
            start.workflow_type,
            start.arguments,
            prefix,
            start.version,
            start.execution_timeout_ms,
            start.run_timeout_ms,
        )
        await self.create_raw(id, schedule, action)
        return self.handle(id)

    async def create_raw(self, id: str, schedule: Schedule, action: ScheduleAction) -> Reply:
        """As `create`, for callers without the workflow's code."""
        policy = SchedulePolicy(schedule.overlap, _ms(schedule.catchup_window))
        body = c.CreateSchedule(schedule.spec(), action, policy, schedule.paused, schedule.note)
        return await self._calls.caller.command(PREFIX + id, body, self._request)

    def handle(self, id: str) -> ScheduleHandle:
        """A handle of a schedule that exists."""
        return ScheduleHandle(self._calls, id, self._request)

    async def list(self) -> AsyncIterator[ScheduleDescription]:
        """Every schedule, asking every partition."""
        for partition in range(self._calls.caller.partitions):
            async for raw in self._calls.pages("schedules", "schedules", {}, partition):
                yield description(raw)


def description(raw: Mapping[str, Any]) -> ScheduleDescription:
    """A schedule from an engine's answer."""
    return ScheduleDescription(
        raw["id"],
        raw["action"]["workflow_type"],
        raw["paused"],
        raw["note"],
        raw["next_at_ms"],
        tuple(raw["running"]),
        raw["started"],
        raw["skipped"],
        raw,
    )


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def _at(moment: datetime | None) -> int:
    """Ms since the epoch; a time without a zone is UTC."""
    if moment is None:
        return 0
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
