"""When schedules are due: cron, calendars, intervals, time zones, jitter."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from orchestrator.core.calendars import (
    LEAST_INTERVAL_MS,
    Calendar,
    Interval,
    ScheduleSpec,
    check,
    next_time,
    with_jitter,
)
from orchestrator.errors import ConfigurationError


def ms(text: str, where: str = "UTC") -> int:
    """A local time in ms since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(where)).timestamp() * 1000)


def times(spec: ScheduleSpec, after: str, count: int) -> list[str]:
    """The next nominal times, as local times of the schedule's zone."""
    found, at = [], ms(after, spec.timezone)
    for _ in range(count):
        following = next_time(spec, at)
        assert following is not None
        at = following
        found.append(datetime.fromtimestamp(at / 1000, ZoneInfo(spec.timezone)).strftime("%Y-%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/15 * * * *", ["2026-11-23 14:15:00", "2026-11-23 14:30:00"]),
        ("30 9 * * mon-fri", ["2026-11-24 09:30:00", "2026-11-25 09:30:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("0 12 13 * fri", ["2026-11-27 12:00:00", "2026-12-04 12:00:00", "2026-12-11 12:00:00", "2026-12-13 12:00:00"]),
        ("0 0 * * 7", ["2026-11-29 00:00:00"]),
        ("5,10-12 3 1 jan,jul *", ["2027-01-01 03:05:00", "2027-01-01 03:10:00"]),
        ("@monthly", ["2026-12-01 00:00:00"]),
    ],
)
def test_cron(cron: str, expected: list[str]) -> None:
    assert times(ScheduleSpec(crons=(cron,)), "2026-11-23 14:00", len(expected)) == expected


def test_a_calendar_wants_all_its_parts() -> None:
    spec = ScheduleSpec(calendars=(Calendar("0", "12", "13", "*", "fri"),))
    assert times(spec, "2026-11-23 14:00", 2) == ["2027-08-13 12:00:00", "2028-10-13 12:00:00"]
    once = ScheduleSpec(calendars=(Calendar(year="2027", day="1", month="1", second="30"),))
    assert times(once, "2026-11-23 14:00", 1) == ["2027-01-01 00:00:30"]
    assert next_time(once, ms("2027-02-01 00:00")) is None


def test_skipped_times_do_not_occur_and_repeated_ones_occur_once() -> None:
    spec = ScheduleSpec(crons=("30 2 * * *",), timezone="Europe/Berlin")
    # 29 March 2026: 02:00 to 03:00 does not exist. 25 October 2026: 02:30 comes twice.
    assert times(spec, "2026-03-28 12:00", 2) == ["2026-03-30 02:30:00", "2026-03-31 02:30:00"]
    first = next_time(spec, ms("2026-10-24 12:00", "Europe/Berlin"))
    assert first == int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp() * 1000)
    assert next_time(spec, first) == ms("2026-10-26 02:30", "Europe/Berlin")


def test_intervals_count_from_the_epoch() -> None:
    spec = ScheduleSpec(intervals=(Interval(90_000, 10_000),))
    assert [next_time(spec, at) for at in (0, 9_999, 10_000, 100_000)] == [10_000, 10_000, 100_000, 190_000]


def test_bounds() -> None:
    spec = ScheduleSpec(intervals=(Interval(1_000),), start_ms=5_000, end_ms=7_000)
    assert [next_time(spec, at) for at in (0, 5_000, 6_000, 7_000)] == [5_000, 6_000, 7_000, None]


def test_every_part_counts() -> None:
    spec = ScheduleSpec(crons=("0 10 * * *",), intervals=(Interval(12 * 3_600_000),))
    assert times(spec, "2026-11-23 09:00", 3) == ["2026-11-23 10:00:00", "2026-11-23 12:00:00", "2026-11-24 00:00:00"]


def test_next_times_against_every_minute(rng: random.Random) -> None:
    """The search against the plain definition."""
    for _ in range(20):
        minute, hour = rng.randrange(60), rng.randrange(24)
        spec = ScheduleSpec(crons=(f"{minute},{(minute + 7) % 60} {hour} * * {rng.randrange(7)}",))
        begin = datetime(2026, rng.randrange(1, 13), rng.randrange(1, 28), rng.randrange(24), tzinfo=UTC)
        fields = spec.crons[0].split()
        wanted = {int(one) for one in fields[0].split(",")}
        moments = (begin + timedelta(minutes=at) for at in range(1, 8 * 24 * 60))
        expected = next(
            one
            for one in moments
            if one.minute in wanted and one.hour == int(fields[1]) and one.isoweekday() % 7 == int(fields[4])
        )
        assert next_time(spec, int(begin.timestamp() * 1000)) == int(expected.timestamp() * 1000), spec


def test_jitter_is_the_same_every_time_and_never_passes_the_next_time() -> None:
    spec = ScheduleSpec(intervals=(Interval(60_000),), jitter_ms=600_000)
    found = [with_jitter(spec, "s", at) for at in range(0, 600_000, 60_000)]
    assert found == [with_jitter(spec, "s", at) for at in range(0, 600_000, 60_000)]
    assert all(0 <= due - at < 60_000 for due, at in zip(found, range(0, 600_000, 60_000), strict=True))
    assert len({due % 60_000 for due in found}) > 5
    assert with_jitter(spec._replace(jitter_ms=0), "s", 60_000) == 60_000


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ScheduleSpec(), "needs a cron"),
        (ScheduleSpec(crons=("* * * *",)), "five fields"),
        (ScheduleSpec(crons=("61 * * * *",)), "minute '61'"),
        (ScheduleSpec(crons=("* * * foo *",)), "month 'foo'"),
        (ScheduleSpec(crons=("5-1 * * * *",)), "minute '5-1'"),
        (ScheduleSpec(crons=("0 0 30 2 *",)), "no such day"),
        (ScheduleSpec(crons=("* * * * *",), timezone="Mars/Olympus"), "Mars/Olympus"),
        (ScheduleSpec(intervals=(Interval(999),)), "an interval of 999 ms: from 1000 to .* a loop with asyncio.sleep"),
        (ScheduleSpec(intervals=(Interval(60_000), Interval(0))), "an interval of 0 ms"),
        (ScheduleSpec(intervals=(Interval(60_000),), start_ms=2_000, end_ms=1_000), "end lies before its start"),
    ],
)
def test_what_is_wrong_is_named(spec: ScheduleSpec, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check(spec)


def test_the_smallest_interval_is_for_what_is_made_and_not_for_what_is_recorded() -> None:
    check(ScheduleSpec(intervals=(Interval(LEAST_INTERVAL_MS),)))
    assert next_time(ScheduleSpec(intervals=(Interval(1),)), 5) == 6
