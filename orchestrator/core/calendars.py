"""When a schedule is due: cron expressions, calendars and intervals, in a time zone, with jitter. Pure.

Local times that a change of the clocks skips do not occur; those that it repeats occur once, the first time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ..errors import ConfigurationError

HORIZON_DAYS = 366 * 9
"""How far ahead is looked: beyond the longest gap between two 29ths of February."""
LAST_MS = 32_503_680_000_000
"""The end of the year 2999: times beyond are mistakes, and calendars end soon after."""
LEAST_INTERVAL_MS = 1_000
"""As often as a cron expression's or a calendar's finest. What was recorded before there was a least goes on."""
MOST_PARTS = 100
MONTHS = {
    name: at
    for at, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
WEEKDAYS = {name: at for at, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Interval(NamedTuple):
    """Every `every_ms`, counted from the epoch plus `offset_ms`."""

    every_ms: int
    offset_ms: int = 0


class Calendar(NamedTuple):
    """Times by their parts, each written as in cron: `*`, `5`, `1-5`, `*/15`, `1,15`; all must match.

    `weekday` 0 and 7 are Sunday; months and weekdays have English names too.
    """

    minute: str = "0"
    hour: str = "0"
    day: str = "*"
    month: str = "*"
    weekday: str = "*"
    second: str = "0"
    year: str = "*"


class ScheduleSpec(NamedTuple):
    """When a schedule is due: whenever one of its parts is. Times in ms since the epoch; 0 is no bound.

    In a cron expression that restricts both, the day of the month or the day of the week suffices (as in Vixie's cron).
    """

    crons: tuple[str, ...] = ()
    intervals: tuple[Interval, ...] = ()
    calendars: tuple[Calendar, ...] = ()
    timezone: str = "UTC"
    jitter_ms: int = 0
    start_ms: int = 0
    end_ms: int = 0


class _Times(NamedTuple):
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    years: frozenset[int] | None
    either_day: bool

    def on(self, day: date) -> bool:
        """Whether the day matches."""
        if day.month not in self.months or (self.years is not None and day.year not in self.years):
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.either_day else in_month and in_week

    def times(self, start: time) -> Iterator[time]:
        """The times of a day from the second of `start` on, in order."""
        first = (start.hour, start.minute, start.second)
        for hour in self.hours:
            for minute in self.minutes if hour >= first[0] else ():
                if (hour, minute) >= first[:2]:
                    yield from (
                        time(hour, minute, second) for second in self.seconds if (hour, minute, second) >= first
                    )


def check(spec: ScheduleSpec) -> None:
    """Raises ConfigurationError naming the part that is wrong and how it is written."""
    if not (spec.crons or spec.intervals or spec.calendars):
        raise ConfigurationError("a schedule needs a cron expression, an interval or a calendar")
    if len(spec.crons) + len(spec.intervals) + len(spec.calendars) > MOST_PARTS:
        raise ConfigurationError(f"a schedule has at most {MOST_PARTS} cron expressions, intervals and calendars")
    zone(spec.timezone)
    if not all(0 <= ms <= LAST_MS for ms in (spec.start_ms, spec.end_ms, spec.jitter_ms)):
        raise ConfigurationError(f"start, end and jitter of a schedule are from 0 to {LAST_MS} ms (the year 2999)")
    if 0 < spec.end_ms < spec.start_ms:
        raise ConfigurationError("a schedule's end lies before its start: it would never be due")
    for interval in spec.intervals:
        if not LEAST_INTERVAL_MS <= interval.every_ms <= LAST_MS:
            raise ConfigurationError(
                f"an interval of {interval.every_ms} ms: from {LEAST_INTERVAL_MS} to {LAST_MS} ms, for every firing is"
                " a run of its own. What is to happen more often is a loop with asyncio.sleep in one workflow or step"
            )
        if abs(interval.offset_ms) > LAST_MS:
            raise ConfigurationError(f"an interval's offset of {interval.offset_ms} ms: at most {LAST_MS}")
    for parts in _parts(spec):
        if not any(parts.on(date(2000, 1, 1) + timedelta(days)) for days in range(HORIZON_DAYS)) and not parts.years:
            raise ConfigurationError(f"{spec.crons or spec.calendars}: no such day ever comes")


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """A time zone of the tz database. Raises ConfigurationError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigurationError(f"time zone {name!r} is not known here: as in Europe/Berlin, or UTC") from error


def next_time(spec: ScheduleSpec, after_ms: int) -> int | None:
    """The first nominal time after `after_ms`, without jitter; None when there is none."""
    after_ms = max(after_ms, spec.start_ms - 1)
    found = [_next_interval(interval, after_ms) for interval in spec.intervals]
    where = zone(spec.timezone)
    found += [at for parts in _parts(spec) if (at := _next_of(parts, where, after_ms)) is not None]
    first = min(found, default=None)
    return None if first is None or (spec.end_ms and first > spec.end_ms) else first


def with_jitter(spec: ScheduleSpec, schedule_id: str, nominal_ms: int) -> int:
    """When a nominal time is carried out: the same for the same schedule and time, and before the next one."""
    if spec.jitter_ms <= 0:
        return nominal_ms
    following = next_time(spec, nominal_ms)
    room = spec.jitter_ms if following is None else min(spec.jitter_ms, following - nominal_ms)
    digest = hashlib.sha256(f"jitter/{schedule_id}/{nominal_ms}".encode()).digest()
    return nominal_ms + int.from_bytes(digest[:8], "big") % max(room, 1)


def _next_interval(interval: Interval, after_ms: int) -> int:
    passed = (after_ms - interval.offset_ms) // interval.every_ms
    return (passed + 1) * interval.every_ms + interval.offset_ms


def _next_of(parts: _Times, where: ZoneInfo, after_ms: int) -> int | None:
    after = datetime.fromtimestamp(after_ms / 1000, where)
    for days in range(HORIZON_DAYS):
        day = after.date() + timedelta(days)
        if not parts.on(day):
            continue
        # Of the first day nothing before its moment: a calendar of seconds has 86,400 times a day.
        for at in parts.times(time() if days else after.time()):
            local = datetime.combine(day, at, where)
            moment = local.astimezone(UTC)
            is_skipped = moment.astimezone(where).replace(tzinfo=None) != local.replace(tzinfo=None)
            due_ms = int(moment.timestamp() * 1000)
            if due_ms > after_ms and not is_skipped:
                return due_ms
    return None


def _parts(spec: ScheduleSpec) -> list[_Times]:
    return [*(_cron(text) for text in spec.crons), *(_calendar(calendar) for calendar in spec.calendars)]


@lru_cache(maxsize=256)
def _cron(text: str) -> _Times:
    fields = MACROS.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise ConfigurationError(
            f"cron {text!r}: five fields are wanted, minute hour day month weekday, as in '30 9 * * mon-fri', or one of"
            f" {', '.join(MACROS)}"
        )
    minute, hour, day, month, weekday = fields
    parts = _calendar(Calendar(minute, hour, day, month, weekday))
    return parts._replace(either_day=not day.startswith("*") and not weekday.startswith("*"))


@lru_cache(maxsize=256)
def _calendar(calendar: Calendar) -> _Times:
    return _Times(
        tuple(_field("second", calendar.second, 0, 59)),
        tuple(_field("minute", calendar.minute, 0, 59)),
        tuple(_field("hour", calendar.hour, 0, 23)),
        frozenset(_field("day", calendar.day, 1, 31)),
        frozenset(_field("month", calendar.month, 1, 12, MONTHS)),
        frozenset(number % 7 for number in _field("weekday", calendar.weekday, 0, 7, WEEKDAYS)),
        None if calendar.year == "*" else frozenset(_field("year", calendar.year, 1970, 9999)),
        either_day=False,
    )


def _field(name: str, text: str, low: int, high: int, names: dict[str, int] | None = None) -> list[int]:
    """The numbers that a field of a cron expression stands for. Raises ConfigurationError."""
    found: set[int] = set()
    for part in text.lower().split(","):
        bounds, _, every = part.partition("/")
        first, dash, last = bounds.partition("-")
        try:
            step = int(every) if every else 1
            if bounds == "*":
                start, end = low, high
            else:
                start = _number(first, names)
                end = _number(last, names) if dash else (high if every else start)
        except ValueError:
            start, end, step = 1, 0, 1
        if not (low <= start <= end <= high and step > 0):
            raise ConfigurationError(f"{name} {text!r}: numbers {low} to {high}, as in *, {low}, {low}-{high}, */2")
        found.update(range(start, end + 1, step))
    return sorted(found)


def _number(text: str, names: dict[str, int] | None) -> int:
    return names[text] if names and text in names else int(text)
