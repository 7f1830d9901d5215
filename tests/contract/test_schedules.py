"""The contract, "Time": schedules."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from orchestrator import (
    Calendar,
    Client,
    CommandRejected,
    ConfigurationError,
    Orchestrator,
    Schedule,
    WorkflowNotFound,
    run_info,
)
from orchestrator.client.schedules import ScheduleDescription, ScheduleHandle
from orchestrator.core.calendars import Interval, ScheduleSpec
from orchestrator.core.commands import CreateSchedule
from orchestrator.core.events import Event, RunStarted, ScheduleFired, SchedulePaused
from orchestrator.core.ids import run_id
from orchestrator.core.schedules import PREFIX, ScheduleAction
from tests.contract.forced import of_kind, recorded
from tests.contract.world import World

app = Orchestrator("contract-schedules")
go = app.signal("go", int)
ASKED = ("RunStarted", "CancelRequested", "RunTerminated")
"""What a schedule does to runs."""


@app.workflow
async def quick(word: str) -> str:
    return f"{word} {run_info().workflow_id}"


@app.workflow
async def waits() -> int:
    return await go.wait()


async def until(handle: ScheduleHandle, started: int, skipped: int = 0) -> ScheduleDescription:
    """Wait until so many firings started and so many were left out."""
    while True:
        found = await handle.describe()
        if found.started >= started and found.skipped >= skipped:
            return found
        await asyncio.sleep(0.02)


async def begun(client: Client, run: str) -> None:
    """A firing is recorded before its run begins, maybe in another partition."""
    while True:
        with contextlib.suppress(WorkflowNotFound):
            if (await client.handle(waits, run).describe()).status == "running":
                return
        await asyncio.sleep(0.02)


async def let_go(client: Client, run: str) -> None:
    """Let a firing's run end."""
    await begun(client, run)
    await client.handle(waits, run).signal(go, 1)


@pytest.mark.contract("time-schedules", "time-firing-id")
def test_an_interval_fires_and_each_firing_has_its_own_run(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.schedules.create("beat", Schedule(every=timedelta(seconds=1)), quick, "hello")
        found = await until(handle, started=2)
        first, second = found.raw["recent"][:2]
        assert second["nominal_ms"] - first["nominal_ms"] == 1_000
        assert first["nominal_ms"] % 1_000 == 0
        at = datetime.fromtimestamp(first["nominal_ms"] / 1000, UTC)
        assert first["workflow_id"].startswith(f"beat-{at:%Y%m%dT%H%M%S}")
        run = client.handle(quick, first["workflow_id"])
        assert await run.result() == f"hello {first['workflow_id']}"
        started = await anext(run.history())
        assert (started.body["actor"]["kind"], started.body["actor"]["id"]) == ("schedule", "schedule/beat")
        await handle.delete()
        with pytest.raises(CommandRejected, match="no such schedule"):
            await handle.describe()

    world.run(app, scenario)


@pytest.mark.contract("time-schedules", "time-firing-id")
def test_a_schedule_survives_a_restart_and_fires_once(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.schedules.create("steady", Schedule(every=timedelta(seconds=1)), quick, "x")
        await until(handle, started=1)
        await world.restart()
        found = await until(handle, started=3)
        await handle.pause()
        names = [one["workflow_id"] for one in found.raw["recent"]]
        assert len(names) == len(set(names))
        runs = [run.workflow_id async for run in client.runs()]
        assert len(runs) == len(set(runs))

    world.run(app, scenario)


@pytest.mark.contract("time-overlap")
def test_skip_leaves_out_what_comes_while_a_run_works(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.schedules.create("busy", Schedule(every=timedelta(seconds=1)), waits)
        found = await until(handle, started=1, skipped=1)
        (running,) = found.running
        await let_go(client, running)
        await until(handle, started=2)

    world.run(app, scenario)


@pytest.mark.contract("time-overlap")
@pytest.mark.parametrize("overlap", ["buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"])
def test_the_other_overlap_policies(world: World, overlap: str) -> None:
    async def scenario(client: Client) -> None:
        later = Schedule(cron="0 0 1 1 *", overlap=overlap)  # type: ignore[arg-type]
        handle = await client.schedules.create(f"o-{overlap}", later, waits)
        await handle.trigger()
        (first,) = (await until(handle, started=1)).running
        while (await client.handle(waits, first).describe()).status != "running":
            await asyncio.sleep(0.02)
        await handle.trigger()
        await handle.trigger()
        if overlap == "allow_all":
            found = await until(handle, started=3)
            assert len(found.running) == 3
            return
        if overlap in ("cancel_other", "terminate_other"):
            found = await until(handle, started=2)
            ended = await client.handle(waits, first).describe()
            assert ended.status == ("cancelled" if overlap == "cancel_other" else "terminated")
            asked = [event async for event in client.handle(waits, first).history() if event.type in ASKED]
            assert [event.body["actor"]["kind"] for event in asked] == ["schedule"] * 2
            return
        found = await handle.describe()
        assert found.skipped == (1 if overlap == "buffer_one" else 0)
        assert len(found.raw["buffered"]) == (1 if overlap == "buffer_one" else 2)
        await let_go(client, first)
        found = await until(handle, started=2)
        (second,) = found.running
        await let_go(client, second)
        if overlap == "buffer_all":
            (third,) = (await until(handle, started=3)).running
            await let_go(client, third)
        while (found := await handle.describe()).running:
            await asyncio.sleep(0.02)
        assert (found.started, found.raw["buffered"]) == (3 if overlap == "buffer_all" else 2, [])

    world.run(app, scenario)


@pytest.mark.contract("time-schedules", "time-catchup", "time-schedule-ops")
def test_pause_with_a_note_trigger_and_back_fill(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.schedules.create(
            "daily", Schedule(cron="30 9 * * *", timezone="Europe/Berlin", paused=True, note="not yet"), quick, "y"
        )
        found = await handle.describe()
        assert (found.paused, found.note, found.next_at_ms) == (True, "not yet", 0)
        await handle.trigger()
        await until(handle, started=1)
        await handle.backfill(datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC))
        found = await until(handle, started=4)
        names = {one["workflow_id"] for one in found.raw["recent"]}
        # Berlin's clocks go forward on 29 March 2026.
        assert {"daily-20260327T083000Z", "daily-20260328T083000Z", "daily-20260329T073000Z"} <= names
        await handle.resume("now")
        found = await handle.describe()
        assert (found.paused, found.note) == (False, "now")
        assert found.next_at_ms > 0
        assert [one.id async for one in client.schedules.list()] == ["daily"]

    world.run(app, scenario)


@pytest.mark.contract("time-schedule-ops")
def test_a_paused_schedule_fires_nothing_but_what_is_asked_for_and_says_why(world: World) -> None:
    """Judged by the order of its own partition's log, over a restart; what came due meanwhile is not made up for."""

    async def scenario(client: Client) -> None:
        handle = await client.schedules.create("beat", Schedule(every=timedelta(seconds=1)), quick, "p")
        other = await client.schedules.create("witness", Schedule(every=timedelta(seconds=1)), quick, "w")
        await until(handle, started=1)
        await handle.pause("the press is broken")
        assert ((await handle.describe()).paused, (await handle.describe()).note) == (True, "the press is broken")
        await world.restart()
        await until(other, started=(await other.describe()).started + 2)
        await handle.trigger()
        await handle.resume("mended")
        found = await until(handle, started=(await handle.describe()).started + 2)
        assert (found.paused, found.note) == (False, "mended")
        await asyncio.gather(handle.pause(), other.pause())
        bodies = [event.body for _, event in recorded(world, f"{PREFIX}beat")]
        paused, resumed, *_ = (at for at, one in enumerate(bodies) if isinstance(one, SchedulePaused))
        between = [one for one in bodies[paused:resumed] if isinstance(one, ScheduleFired)]
        assert len(between) == 1, "the one that was triggered"
        after = [one.nominal_ms for one in bodies[resumed:] if isinstance(one, ScheduleFired)]
        before = [one.nominal_ms for one in bodies[:paused] if isinstance(one, ScheduleFired)]
        assert after[0] - before[-1] > 1_000, "those in between were not made up for"
        assert (bodies[paused].note, bodies[resumed].note) == ("the press is broken", "mended")

    world.run(app, scenario)


def firings(world: World, schedule: str) -> list[Event]:
    """What the log has of its firings, in their order."""
    return [event for _, event in of_kind(world, f"{PREFIX}{schedule}", ScheduleFired)]


@pytest.mark.contract("time-catchup")
def test_what_came_due_while_no_engine_ran_is_made_up_for_within_the_window(world: World) -> None:
    """Within it each time once; what lies further back is left out, and on record as missed."""
    window_ms, down_ms = 1_500, 3_600

    async def scenario(client: Client) -> None:
        beat = Schedule(every=timedelta(seconds=1), overlap="allow_all")
        short = replace(beat, catchup_window=timedelta(milliseconds=window_ms))
        patient = await client.schedules.create("patient", beat, quick, "z")
        late = await client.schedules.create("late", short, quick, "z")
        await asyncio.gather(until(patient, started=1), until(late, started=1))
        async with world.down():
            ended = time.time() * 1000
            while (begins := time.time() * 1000) < ended + down_ms:
                await asyncio.sleep(0.05)
        before = (await late.describe()).started
        await asyncio.gather(until(late, started=before + 1), until(patient, started=5))
        while firings(world, "patient")[-1].body.nominal_ms < begins:
            await asyncio.sleep(0.05)
        await asyncio.gather(patient.pause(), late.pause())
        made_up = [event.body for event in firings(world, "patient")]
        nominal = [body.nominal_ms for body in made_up]
        assert nominal == list(range(nominal[0], nominal[-1] + 1, 1_000)), "each once, and none is left out"
        assert {body.outcome for body in made_up} == {"started"}
        assert len([at for at in nominal if ended < at < begins]) >= 3
        for body in made_up:
            assert await client.handle(quick, name("patient", body.nominal_ms)).result()
        # By the clock of their own partition.
        told = [(event.body.nominal_ms, event.body.outcome, event.recorded_at_ms) for event in firings(world, "late")]
        assert [at for at, _, _ in told] == sorted({at for at, _, _ in told}), "each once"
        assert any(outcome == "missed" and at < begins for at, outcome, _ in told), "or it was due before they ended"
        for (at, outcome, now), (following, _, _) in pairwise(told):
            assert outcome == ("missed" if at < now - window_ms else "started")
            assert following == (at + 1_000 if outcome == "started" else -(-(now - window_ms) // 1_000) * 1_000)

    world.run(app, scenario)


def name(schedule: str, nominal_ms: int) -> str:
    """The workflow id of a firing."""
    return f"{schedule}-{datetime.fromtimestamp(nominal_ms / 1000, UTC):%Y%m%dT%H%M%S}Z"


@pytest.mark.contract("time-firing-id", "time-catchup")
def test_the_run_of_a_firing_is_the_same_whenever_it_is_made(world: World) -> None:
    """Back-filled again, by another owner and by a schedule that was made anew: the run that there is, and no other."""
    days = datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC)
    daily = Schedule(cron="30 9 * * *", paused=True)

    async def scenario(client: Client) -> None:
        found: list[list[str]] = []
        for _ in range(2):
            handle = await client.schedules.create("daily", daily, quick, "d")
            for _ in range(2):
                await handle.backfill(*days)
                while (await handle.describe()).running:
                    await asyncio.sleep(0.02)
                runs = [client.handle(quick, f"daily-2026032{day}T093000Z") for day in (7, 8)]
                for run in runs:
                    assert (await run.result()).startswith("d daily-")
                found.append([(await run.describe()).run_id for run in runs])
            await handle.delete()
            await world.restart()
        at = [round(datetime(2026, 3, day, 9, 30, tzinfo=UTC).timestamp()) * 1000 for day in (27, 28)]
        commands = {
            f"daily-2026032{day}T093000Z": f"{PREFIX}daily/{when}" for day, when in zip((7, 8), at, strict=True)
        }
        assert found == [[run_id(app.name, workflow, command) for workflow, command in commands.items()]] * 4
        for workflow in commands:
            assert len(of_kind(world, workflow, RunStarted)) == 1

    world.run(app, scenario)


@pytest.mark.contract("time-schedules")
def test_what_cannot_be_is_refused(world: World) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(ConfigurationError, match="five fields"):
            await client.schedules.create("bad", Schedule(cron="every day"), quick, "a")
        often = Schedule(every=timedelta(milliseconds=1))
        with pytest.raises(ConfigurationError, match="a loop with asyncio"):
            await client.schedules.create("bad", often, quick, "a")
        # Any producer may send what this client does not.
        made = CreateSchedule(ScheduleSpec(intervals=(Interval(1),)), ScheduleAction("quick"))
        with pytest.raises(CommandRejected, match="an interval of 1 ms: from 1000") as refused:
            await client.calls.caller.command(f"{PREFIX}bad", made)
        assert refused.value.code == "bad_request"
        await client.schedules.create("twice", Schedule(cron="@daily"), quick, "a")
        with pytest.raises(CommandRejected, match="delete it first") as twice:
            await client.schedules.create("twice", Schedule(cron="@daily"), quick, "a")
        assert twice.value.code == "already_exists"
        with pytest.raises(CommandRejected, match="no such schedule"):
            await client.schedules.handle("nobody").trigger()

    world.run(app, scenario)


@pytest.mark.contract("time-schedules")
def test_calendars_are_due_where_all_their_parts_match(world: World) -> None:
    async def scenario(client: Client) -> None:
        office = Calendar(hour="9", minute="30", weekday="mon-fri", month="3")
        report = Calendar(hour="0", minute="0", day="1")
        made = Schedule(calendars=(office, report), timezone="Europe/Berlin", paused=True)
        handle = await client.schedules.create("office", made, quick, "c")
        # Friday to Wednesday, over the change of the clocks and into April: no more mornings, the first of the month.
        await handle.backfill(datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 4, 1, 12, tzinfo=UTC))
        found = await until(handle, started=4)
        names = [one["workflow_id"].removeprefix("office-") for one in found.raw["recent"]]
        assert sorted(names) == ["20260327T083000Z", "20260330T073000Z", "20260331T073000Z", "20260331T220000Z"]

    world.run(app, scenario)


@pytest.mark.contract("time-schedules")
def test_jitter_is_the_same_for_the_same_firing_and_ends_before_the_next(world: World) -> None:
    async def scenario(client: Client) -> None:
        daily = Schedule(cron="0 4 * * *", jitter=timedelta(hours=2))
        due = []
        for name in ("a", "b", "a", "c", "d"):
            handle = await client.schedules.create(name, daily, quick, "j")
            if due and name == "a":
                await world.restart()
            due.append((name, (await handle.describe()).next_at_ms))
            await handle.delete()
        four = 4 * 3_600_000
        assert all(four <= at % 86_400_000 < four + 7_200_000 for _, at in due)
        by_day: dict[int, set[tuple[str, int]]] = {}
        for name, at in due:
            by_day.setdefault(at // 86_400_000, set()).add((name, at))
        # One delay for each schedule and firing, and not the same for all.
        assert all(len(found) == len({name for name, _ in found}) for found in by_day.values())
        assert len({at for _, at in due}) > 1

        beat = Schedule(every=timedelta(seconds=1), jitter=timedelta(hours=1))
        found = await until(await client.schedules.create("beat", beat, quick, "j"), started=3)
        nominal = [one["nominal_ms"] for one in found.raw["recent"]]
        assert nominal == sorted(set(nominal)), "each once, in their order: no delay reaches the next firing"
        assert all(one["at_ms"] >= one["nominal_ms"] for one in found.raw["recent"])
        assert all(at % 1_000 == 0 for at in nominal)

    world.run(app, scenario)
