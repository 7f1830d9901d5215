"""Waiting for runs: `workflow wait` and `watch`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import click

from orchestrator import errors
from orchestrator.client.calls import Calls
from orchestrator.client.views import HistoryEvent, Outcome, failure_text, json_value

from . import exits
from .arguments import Filled, Seconds
from .output import Progress, dumps, output_option, print_one, print_value, say, time_text
from .run_views import event_summary, now_of
from .session import call, settings_of

NARRATE_S = 1.0
WATCH_S = 0.5
"""Seconds between two looks at a run."""


async def wait_for(calls: Calls, workflow_id: str, run_id: str, timeout_s: float | None) -> Outcome:
    """Wait for the end of a run, showing on stderr what it waits for. Raises ReplyTimeout, RunParked."""
    progress = Progress()
    client_log = logging.getLogger("orchestrator.client.calls")
    client_log.addFilter(_narrated)
    narrator = asyncio.create_task(_narrate(calls, workflow_id, progress))
    try:
        return await calls.outcome(workflow_id, run_id, timeout_s)
    finally:
        client_log.removeFilter(_narrated)
        narrator.cancel()
        progress.clear()


def _narrated(record: logging.LogRecord) -> bool:
    """Lets pass what the narrator does not say on its one line: errors."""
    return record.levelno > logging.WARNING


async def _narrate(calls: Calls, workflow_id: str, progress: Progress) -> None:
    while True:
        await asyncio.sleep(NARRATE_S)
        try:
            run = await calls.describe(workflow_id, brief=True)
        except errors.ReplyTimeout:
            progress.show(f"{workflow_id}: no engine answers at the moment")
        except errors.OrchestratorError as error:
            # Whoever waits for the outcome meets the same error and ends with it.
            progress.show(f"{workflow_id}: {error}")
        else:
            if run.is_open:
                progress.show(f"{workflow_id} {now_of(run)}")


async def wait_and_report(calls: Calls, workflow_id: str, run_id: str, timeout_s: float, output: str) -> int:
    """Wait for the end of a run and print it, or that it stands still when the time is over. Returns the exit code."""
    try:
        outcome = await wait_for(calls, workflow_id, run_id, timeout_s or None)
    except errors.RunParked as error:
        return _report_parked(error, output)
    return report_end(outcome, output)


def _report_parked(error: errors.RunParked, output: str) -> int:
    if output != "table":
        place = {"workflow_id": error.workflow_id, "run_id": error.run_id}
        print_one({**place, "status": "parked", "failure": {"type": "RunParked", "message": str(error)}}, output)
    remedy = f"`orchestrator workflow retry {error.workflow_id}` once that is mended"
    say(f"error: {error.workflow_id}/{error.run_id} is {error}. It goes on by itself with mended code, or by {remedy}")
    return exits.FAILED


def report_end(outcome: Outcome, output: str) -> int:
    """Print how a run ended: its result on stdout, or what went wrong on stderr. Returns the exit code."""
    reply = outcome.reply
    if outcome.status == "completed":
        print_value(json_value(reply.result, f"the result of {reply.workflow_id}"), output)
        return exits.OK
    if output != "table":
        print_one(_ended(outcome), output)
    say(f"error: {reply.workflow_id}/{reply.run_id} {_how(outcome)}")
    return exits.FAILED


def _how(outcome: Outcome) -> str:
    failure = outcome.reply.failure
    if outcome.status == "failed" and failure is not None:
        return f"failed: {failure_text(failure._asdict())}"
    return f"was {outcome.status}" + (f": {outcome.reply.message}" if outcome.reply.message else "")


def _ended(outcome: Outcome) -> dict[str, Any]:
    reply = outcome.reply
    failure = None if reply.failure is None else {"type": reply.failure.type, "message": reply.failure.message}
    return {"workflow_id": reply.workflow_id, "run_id": reply.run_id, "status": outcome.status, "failure": failure}


@click.command("wait")
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@click.option(
    "--timeout", type=Seconds(), default=0.0, metavar="SECONDS", help="Give up after so long; the run goes on."
)
@output_option
@click.pass_context
def wait_command(context: click.Context, /, workflow_id: str, run_id: str, timeout: float, output: str) -> None:
    """Wait until a run has ended and print its result; follows continue-as-new.

    Exit code 1 if it failed, was cancelled or terminated, or is parked when the time is over;
    4 if the time is over.
    """

    async def work(calls: Calls) -> int:
        return await wait_and_report(calls, workflow_id, run_id, timeout, output)

    code = call(settings_of(context), work)
    if code != exits.OK:
        raise exits.Exit(code)


@click.command("watch")
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.option("--from", "from_seq", type=click.IntRange(min=1), default=1, show_default=True, help="First event.")
@output_option
@click.pass_context
def watch_command(context: click.Context, /, workflow_id: str, from_seq: int, output: str) -> None:
    """Print a run's events as they happen, until it has ended."""

    async def work(calls: Calls) -> None:
        await _watch(calls, workflow_id, from_seq, output)

    call(settings_of(context), work)


async def _watch(calls: Calls, workflow_id: str, following: int, output: str) -> None:
    progress = Progress()
    events: list[HistoryEvent] = []
    run = await calls.describe(workflow_id, brief=True)
    while True:
        async for event in calls.history(workflow_id, run.run_id, following):
            progress.clear()
            _print_event(event, output)
            events += [event] if output == "json" else []
            following = event.seq + 1
        run = await calls.describe(workflow_id, run.run_id, brief=True)
        if run.is_open:
            progress.show(now_of(run))
            await asyncio.sleep(WATCH_S)
        elif following > run.seq and run.raw.get("next_run_id"):
            run, following = await calls.describe(workflow_id, str(run.raw["next_run_id"]), brief=True), 1
        elif following > run.seq:
            break
    progress.clear()
    if output == "json":
        click.echo(dumps([event.raw for event in events], indent=2))


def _print_event(event: HistoryEvent, output: str) -> None:
    if output == "jsonl":
        click.echo(dumps(event.raw))
    elif output == "table":
        click.echo(f"{time_text(event.at_ms)}  {event.seq:>5}  {event.type:<20} {event_summary(event)}".rstrip())
