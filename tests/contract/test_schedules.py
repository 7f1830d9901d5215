"""The contract, "Time": schedules."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator import Calendar, Client, CommandRejected, ConfigurationError, Orchestrator, Schedule, run_info
from orchestrator.client.schedules import ScheduleDescription, ScheduleHandle
from orchestrator.core.calendars import Interval, ScheduleSpec
from orchestrator.core.commands import CreateSchedule
from orchestrator.core.schedules import PREFIX, ScheduleAction
from tests.contract.world import World

app = Orchestrator("contract-schedules")
go = app.signal("go", int)


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


def outcomes(found: ScheduleDescription) -> list[str]:
    """Of the last firings, oldest first."""
    return [one["outcome"] for one in found.raw["recent"]]


@pytest.mark.contract("time-schedules", "time-schedule-ops")
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
        assert started.body["actor"]["id"] == "schedule/beat"
        await handle.delete()
        with pytest.raises(CommandRejected, match="no such schedule"):
            await handle.describe()

    world.run(app, scenario)


@pytest.mark.contract("time-schedules", "time-schedule-ops")
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
        await client.handle(waits, running).signal(go, 1)
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
            return
        found = await handle.describe()
        assert found.skipped == (1 if overlap == "buffer_one" else 0)
        assert len(found.raw["buffered"]) == (1 if overlap == "buffer_one" else 2)
        await client.handle(waits, first).signal(go, 1)
        found = await until(handle, started=2)
        assert len(found.running) == 1

    world.run(app, scenario)


@pytest.mark.contract("time-schedule-ops")
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
def test_what_was_missed_beyond_the_window_is_left_out(world: World) -> None:
    async def scenario(client: Client) -> None:
        spec = Schedule(every=timedelta(seconds=1), catchup_window=timedelta(milliseconds=250))
        handle = await client.schedules.create("late", spec, quick, "z")
        await until(handle, started=1)
        await asyncio.to_thread(world.stop)
        await asyncio.sleep(2.0)
        await asyncio.to_thread(world.start)
        before = (await handle.describe()).started
        found = await until(handle, started=before + 1)
        assert "missed" in outcomes(found) or found.skipped > 0

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
