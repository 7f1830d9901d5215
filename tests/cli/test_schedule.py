"""`orchestrator schedule` and `orchestrator event send`, on the log in memory and on a real broker: what they do."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator import Client, Orchestrator, run_info, wait_event
from orchestrator.cli import session
from tests.cli.conftest import Ran
from tests.contract.modes import MODES
from tests.contract.world import World

pytestmark = pytest.mark.slow

app = Orchestrator("timetable")
go = app.signal("go", int)
YEARLY = ("--cron", "0 0 1 1 *")
PATIENCE_S = 30.0


@app.workflow
async def report(word: str, copies: int = 1) -> str:
    return f"{word} x{copies} of {run_info().workflow_id}"


@app.workflow
async def waits() -> int:
    return await go.wait()


@app.workflow
async def listens() -> Any:
    return await wait_event("paid", {"order": 7})


class Line:
    """Command lines that reach one application."""

    def __init__(self, run: Callable[..., Ran], name: str) -> None:
        self._run = run
        self._name = name

    def __call__(self, *words: str) -> Ran:
        return self._run("--app-name", self._name, *words)

    def json(self, *words: str) -> Any:
        """What a command that must succeed prints as JSON."""
        ran = self(*words, "-o", "json")
        assert ran.code == 0, ran.err
        return ran.json

    def until(self, holds: Callable[[Any], bool], *words: str) -> Any:
        """Ask again until the answer is as wanted."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(found := self.json(*words)):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
def line(request: pytest.FixtureRequest, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """Engines, and command lines that reach them."""
    bootstrap = request.getfixturevalue("kafka").bootstrap if request.param == "kafka" else ""
    world, ready, over, names = World(MODES["default"], bootstrap), threading.Event(), threading.Event(), list[str]()

    async def scenario(client: Client) -> None:
        names.append(app.name)
        ready.set()
        await asyncio.to_thread(over.wait)

    def transport(*_: object) -> Any:
        assert world.ground is not None
        return world.ground.transport()

    monkeypatch.setattr(session, "open_transport", transport)
    thread = threading.Thread(target=world.run, args=(app, scenario))
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        yield Line(run, names[0])
    finally:
        over.set()
        thread.join()


def test_a_schedule_from_its_making_to_its_end(line: Line) -> None:
    made = line.json("schedule", "create", "year", "report", "word=hello", *YEARLY, "--timezone", "Europe/Berlin",
                     "--note", "closing")  # fmt: skip
    assert (made["id"], made["paused"], made["started"], made["note"]) == ("year", False, 0, "closing")
    assert time.gmtime(made["next_at_ms"] / 1000)[1:5] == (12, 31, 23, 0), "midnight in Berlin"
    again = line("schedule", "create", "year", "report", *YEARLY)
    assert (again.code, "delete it first" in again.err) == (5, True)

    assert line.json("schedule", "trigger", "year")["id"] == "year"
    shown = line.until(lambda found: found["started"] == 1 and not found["running"], "schedule", "show", "year")
    (fired,) = shown["recent"]
    assert line.json("workflow", "wait", fired["workflow_id"]) == f"hello x1 of {fired['workflow_id']}"

    backfilled = line.json("schedule", "backfill", "year", "--from", "2020-01-01", "--to", "2022-12-31T23:30")
    assert backfilled["id"] == "year"
    shown = line.until(lambda found: found["started"] == 4, "schedule", "show", "year")
    ids = [one["workflow_id"] for one in shown["recent"]]
    assert ids[1:] == ["year-20201231T230000Z", "year-20211231T230000Z", "year-20221231T230000Z"]

    line.json("schedule", "pause", "year", "--note", "vacation")
    (listed,) = line.json("schedule", "list")
    assert (listed["id"], listed["paused"], listed["note"], listed["next_at_ms"]) == ("year", True, "vacation", 0)
    line.json("schedule", "resume", "year", "--note", "back")
    assert line.json("schedule", "show", "year")["next_at_ms"] == made["next_at_ms"]

    line.json("schedule", "delete", "year")
    assert line.json("schedule", "list") == []
    gone = line("schedule", "show", "year")
    assert (gone.code, gone.err) == (3, "error: schedule/year: no such schedule\n")
    assert line.json("workflow", "wait", ids[-1]) == f"hello x1 of {ids[-1]}", "its runs stay"


def test_calendars_bounds_and_the_run_are_as_asked(line: Line) -> None:
    made = line.json(
        *("schedule", "create", "week", "waits", "--calendar", "hour=9 minute=30 weekday=mon-fri"),
        *("--calendar", "day=1 month=jan", "--timezone", "Europe/Berlin", "--start", "2999-01-01", "--version", "1"),
        *("--end", "2999-01-02T12:00", "--execution-timeout", "60", "--run-timeout", "0.5"),
    )
    assert time.gmtime(made["next_at_ms"] / 1000)[:5] == (2999, 1, 1, 8, 30), "a Tuesday, half past nine in Berlin"
    shown = line.json("schedule", "show", "week")
    week, year = shown["spec"]["calendars"]
    assert (week["hour"], week["minute"], week["weekday"], week["day"]) == ("9", "30", "mon-fri", "*")
    assert (year["hour"], year["minute"], year["day"], year["month"]) == ("0", "0", "1", "jan")
    assert shown["spec"]["end_ms"] - shown["spec"]["start_ms"] == 36 * 3_600_000
    action = shown["action"]
    assert (action["version"], action["execution_timeout_ms"], action["run_timeout_ms"]) == (1, 60_000, 500)
    line.json("schedule", "trigger", "week")
    (fired,) = line.until(lambda found: found["recent"], "schedule", "show", "week")["recent"]
    line.until(lambda found: found["status"] == "failed", "workflow", "show", fired["workflow_id"])


def test_tables_are_for_people(line: Line) -> None:
    line.json("schedule", "create", "year", "report", "word=hi", *YEARLY, "--paused", "--note", "not yet")
    line.json("schedule", "backfill", "year", "--from", "2020-01-01", "--to", "2020-01-02")
    line.until(lambda found: found["started"] == 1 and not found["running"], "schedule", "show", "year")
    listed = line("schedule", "list").out.splitlines()
    assert listed[0].split() == [
        "id",
        "workflow",
        "type",
        "next",
        "at",
        "paused",
        "running",
        "started",
        "skipped",
        "note",
    ]
    assert listed[1].split() == ["year", "report", "true", "1", "0", "not", "yet"]
    shown = line("schedule", "show", "year").out
    assert "paused         true" in shown
    head, row = shown.splitlines()[-2:]
    assert head.split() == ["nominal", "at", "outcome", "workflow", "id"]
    assert row.startswith("2020-01-01 00:00:00Z  ")
    assert row.endswith("  year-20200101T000000Z")


def test_an_interval_fires_and_overlap_is_as_asked(line: Line) -> None:
    line.json("schedule", "create", "beat", "waits", "--every", "1", "--overlap", "buffer_one", "--workflow-id", "b")
    shown = line.until(lambda found: found["skipped"] > 0, "schedule", "show", "beat")
    assert (len(shown["running"]), len(shown["buffered"])) == (1, 1)
    (running,) = shown["running"]
    assert running.startswith("b-")
    assert line("schedule", "pause", "beat").code == 0
    line.json("workflow", "signal", running, "go", "1")
    shown = line.until(lambda found: found["running"] not in ([running], []), "schedule", "show", "beat")
    assert shown["running"] != [running]
    line.json("schedule", "trigger", "beat", "--overlap", "terminate_other")
    line.until(lambda found: found["running"] != shown["running"], "schedule", "show", "beat")
    line.until(lambda found: found["status"] == "terminated", "workflow", "show", shown["running"][0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "x", "report", "--cron", "every day"], "five fields"),
        (["create", "x", "report", "--every", "0.2"], "an interval of 200 ms: from 1000"),
        (["create", "x", "report", "--every", "60", "--timezone", "Mars/Olympus"], "Mars/Olympus"),
        (["create", "x", "report", *YEARLY, "--overlap", "sometimes"], "sometimes"),
        (["create", "x", "report", "hello", *YEARLY], "is not an argument"),
        (["create", "x", "report", "--calendar", "9 mon-fri"], "'9 mon-fri' is no calendar: write minute, hour, day,"),
        (["create", "x", "report", "--calendar", "hours=9"], "'hours=9' is no calendar"),
        (["create", "x", "report", "--calendar", "hour="], "'hour=' is no calendar"),
        (["create", "x", "report", "--calendar", "hour=9 hour=10"], "each once at most"),
        (["create", "x", "report", "--calendar", ""], "'' is no calendar"),
        (["create", "x", "report", "--calendar", "hour=25"], "hour '25': numbers 0 to 23"),
        (["create", "x", "report", "--calendar", "weekday=monday"], "weekday 'monday': numbers 0 to 7"),
        (["create", "x", "report", "--calendar", "day=31 month=feb"], "no such day ever comes"),
        (["create", "x", "report", *YEARLY, "--start", "soon"], "'soon' does not match"),
        (["create", "x", "report", *YEARLY, "--start", "2026-01-02", "--end", "2026-01-01"], "lies before its start"),
        (["create", "x", "report", *YEARLY, "--end", "9999-01-01"], "the year 2999"),
        (["create", "x", "report", *YEARLY, "--run-timeout", "-1"], "'-1' is no number of seconds"),
        (["create", "x", "report", "--start", "2026-01-02"], "needs a cron expression, an interval or a calendar"),
        (["backfill", "x", "--from", "2026-01-02", "--to", "yesterday"], "yesterday"),
    ],
)
@pytest.mark.usefixtures("engine")
def test_what_cannot_be_is_a_usage_error(run: Callable[..., Ran], words: list[str], said: str) -> None:
    ran = run("--app-name", "timetable", "schedule", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_a_schedule_that_is_not_there(line: Line) -> None:
    for verb in ("show", "pause", "resume", "trigger", "delete"):
        ran = line("schedule", verb, "nobody")
        assert (ran.code, ran.err) == (3, "error: schedule/nobody: no such schedule\n"), verb
    assert line("schedule", "backfill", "nobody", "--from", "2020-01-01", "--to", "2020-01-02").code == 3


def test_an_event_reaches_whom_it_fits_and_counts_once(line: Line) -> None:
    started = line.json("workflow", "start", "listens", "--id", "w")
    line.until(lambda found: "waits for event paid" in found["why"], "workflow", "show", "w")
    assert line.json("event", "send", "paid", '{"order": 8}')["name"] == "paid"
    for _ in range(2):
        assert line.json("event", "send", "paid", '{"order": 7, "cents": 9}', "--id", "one")["id"] == "one"
    assert line.json("workflow", "wait", "w") == {"order": 7, "cents": 9}
    assert line.json("workflow", "show", "w")["run_id"] == started["run_id"]
    kept = line.json("event", "list", "paid")
    assert [one["payload"].get("order") for one in kept] == [8, 7]
    too_large = line("event", "send", "paid", json.dumps("x" * 300_000))
    assert (too_large.code, "an event has at most 262144" in too_large.err) == (5, True)
