"""`orchestrator schedule`: runs that start by the clock."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from orchestrator.client.calls import Calls
from orchestrator.client.requests import Request
from orchestrator.client.schedules import Schedule, ScheduleDescription, ScheduleHandle, Schedules
from orchestrator.client.views import json_payload
from orchestrator.core.commands import StartWorkflow
from orchestrator.core.schedules import OVERLAPS, ScheduleAction
from orchestrator.core.tasks import Reply

from .arguments import Parts, Seconds, check_start, workflow_arguments
from .output import output_option, print_one, print_rows
from .session import call, request_of, request_options, settings_of

COLUMNS = ("id", "workflow_type", "next_at_ms", "paused", "running", "started", "skipped", "note")
OVERLAP = click.Choice(OVERLAPS)
DATES = click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"])


@click.group()
def schedule() -> None:
    """Start runs by the clock."""


@schedule.command()
@click.argument("schedule_id", metavar="ID")
@click.argument("workflow_type", metavar="TYPE")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--cron", multiple=True, metavar="'M H D M W'", help="As in '30 9 * * mon-fri'; may be given again.")
@click.option(
    "--every", type=Seconds(), multiple=True, metavar="SECONDS", help="An interval, at least 1; may be given again."
)
@click.option("--calendar", "calendars", type=Parts(), multiple=True, metavar="PARTS",
              help="As in 'hour=9 weekday=mon-fri': all must match; hour, minute and second are 0 if not given; may be"
              " given again.")  # fmt: skip
@click.option(
    "--timezone", default="UTC", show_default=True, help="Of cron expressions and calendars, as in Europe/Berlin."
)
@click.option("--start", type=DATES, default=None, help="Not before, UTC, as in 2026-11-01T00:00.")
@click.option("--end", type=DATES, default=None, help="Not after, UTC.")
@click.option("--jitter", type=Seconds(), default=0.0, metavar="SECONDS", help="Delay each firing by up to that much.")
@click.option("--overlap", type=OVERLAP, default="skip", show_default=True, help="If its last run still works.")
@click.option("--catchup-window", type=Seconds(), default=365 * 86_400.0, metavar="SECONDS",
              help="Leave out firings that were missed by more.")  # fmt: skip
@click.option("--version", type=int, default=0, help="The workflow's version; the newest if not given.")
@click.option("--execution-timeout", type=Seconds(), default=0.0, metavar="SECONDS",
              help="For each run and those that continue it.")  # fmt: skip
@click.option("--run-timeout", type=Seconds(), default=0.0, metavar="SECONDS", help="For each run.")
@click.option("--workflow-id", default="", help="Before `-` and the time in its runs' ids; else the schedule's id.")
@click.option("--input", "given", default="", metavar="JSON", help="Arguments as a JSON object, @file or -.")
@click.option("--paused", is_flag=True, help="Do not fire before `resume`.")
@click.option("--note", default="", help="A note for people.")
@request_options
@output_option
@click.pass_context
def create(context: click.Context, /, schedule_id: str, output: str, **options: Any) -> None:
    """Make the schedule ID: start a run of TYPE, with its arguments by name, whenever it is due. Times are UTC."""
    request = request_of(options)
    made = Schedule(
        cron=options["cron"],
        every=tuple(timedelta(seconds=one) for one in options["every"]),
        calendars=options["calendars"],
        timezone=options["timezone"],
        start=options["start"],
        end=options["end"],
        jitter=timedelta(seconds=options["jitter"]),
        overlap=options["overlap"],
        catchup_window=timedelta(seconds=options["catchup_window"]),
        paused=options["paused"],
        note=options["note"],
    )
    made.spec()
    payload = json_payload(workflow_arguments(options["arguments"], options["given"]))
    check_start(settings_of(context), StartWorkflow(options["workflow_type"], payload, options["version"]))
    action = ScheduleAction(
        options["workflow_type"],
        payload,
        options["workflow_id"],
        options["version"],
        round(options["execution_timeout"] * 1000),
        round(options["run_timeout"] * 1000),
    )

    async def work(calls: Calls) -> ScheduleDescription:
        await Schedules(calls, request).create_raw(schedule_id, made, action)
        return await ScheduleHandle(calls, schedule_id).describe()

    print_one(_row(call(settings_of(context), work)), output)


@schedule.command("list")
@output_option
@click.pass_context
def list_(context: click.Context, /, output: str) -> None:
    """List every schedule."""

    async def work(calls: Calls) -> list[ScheduleDescription]:
        return [one async for one in Schedules(calls).list()]

    print_rows((_row(one) for one in call(settings_of(context), work)), COLUMNS, output)


@schedule.command()
@click.argument("schedule_id", metavar="ID")
@output_option
@click.pass_context
def show(context: click.Context, /, schedule_id: str, output: str) -> None:
    """Show when ID is due, what runs, and what came of its last firings."""
    found = call(settings_of(context), lambda calls: ScheduleHandle(calls, schedule_id).describe())
    if output != "table":
        print_one(dict(found.raw), output)
        return
    print_one({name: value for name, value in _row(found).items() if value != ""}, output)
    if found.raw["recent"]:
        click.echo()
        recent = ({**one, "outcome": one["outcome"]} for one in reversed(found.raw["recent"]))
        print_rows(recent, ("nominal_ms", "at_ms", "outcome", "workflow_id"), output)


def _command(name: str, what: str) -> Callable[[Callable[..., Any]], click.Command]:
    def decorate(send: Callable[..., Coroutine[Any, Any, Reply]]) -> click.Command:
        @click.argument("schedule_id", metavar="ID")
        @request_options
        @output_option
        @click.pass_context
        def command(context: click.Context, /, schedule_id: str, output: str, **options: Any) -> None:
            request: Request = request_of(options)

            async def work(calls: Calls) -> Reply:
                return await send(ScheduleHandle(calls, schedule_id, request), **options)

            reply = call(settings_of(context), work)
            print_one({"id": schedule_id, "outcome": reply.code, "message": reply.message}, output)

        command.__doc__ = what
        for parameter in reversed(getattr(send, "__click_params__", [])):
            command.__click_params__.insert(0, parameter)  # type: ignore[attr-defined]
        return schedule.command(name)(command)

    return decorate


@_command("pause", "Stop firing.")
@click.option("--note", default="", help="Why, for people.")
async def pause(handle: ScheduleHandle, note: str) -> Reply:
    """Pause."""
    return await handle.pause(note)


@_command("resume", "Fire again from now on.")
@click.option("--note", default="", help="Why, for people.")
async def resume(handle: ScheduleHandle, note: str) -> Reply:
    """Go on."""
    return await handle.resume(note)


@_command("trigger", "Fire once now.")
@click.option("--overlap", type=OVERLAP, help="In place of the schedule's own policy.")
async def trigger(handle: ScheduleHandle, overlap: Any) -> Reply:
    """Fire."""
    return await handle.trigger(overlap or "")


@_command("backfill", "Fire for every time in a range of the past (UTC).")
@click.option("--from", "start", type=DATES, required=True, help="The first time, as in 2026-11-01T00:00.")
@click.option("--to", "end", type=DATES, required=True, help="The last time.")
@click.option("--overlap", type=OVERLAP, default="allow_all", show_default=True)
async def backfill(handle: ScheduleHandle, start: datetime, end: datetime, overlap: Any) -> Reply:
    """Make up for a range."""
    if end < start:
        raise click.UsageError(f"--to {end:%Y-%m-%dT%H:%M:%S} lies before --from {start:%Y-%m-%dT%H:%M:%S}")
    return await handle.backfill(start.replace(tzinfo=UTC), end.replace(tzinfo=UTC), overlap)


@_command("delete", "Forget the schedule; runs that it started go on.")
async def delete(handle: ScheduleHandle) -> Reply:
    """Forget."""
    return await handle.delete()


def _row(found: ScheduleDescription) -> dict[str, Any]:
    row = {name: getattr(found, name) for name in COLUMNS}
    return {**row, "running": ", ".join(found.running)}
