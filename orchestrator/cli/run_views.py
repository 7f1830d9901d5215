"""Looking at runs: `workflow show`, `history` and `list`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, TypeVar

import click

from orchestrator.client.calls import Calls
from orchestrator.client.limits import with_places
from orchestrator.client.views import HistoryEvent, Rejection, RunDescription, RunSummary, failure_text
from orchestrator.core.signatures import named
from orchestrator.core.values import Actor
from orchestrator.sdk.attributes import Where

from .arguments import Filled, status_option, where_option
from .output import RowStream, cell, dumps, output_option, print_one, print_rows, say, time_text
from .session import call, settings_of

T = TypeVar("T")

DIGITS = 12
QUIET = frozenset({"turn", "path", "n", "options", "seed", "code", "actor", "traceback", "call_site", "token", "by"})
"""Members of an event's body that a line of history leaves out."""
PLACES = {"name": -1, "digest": 1}
"""What stands before the other members, and behind them: a line may be cut."""
REFUSED = ["at_ms", "code", "command_id", "message"]
LINEAGE = frozenset({"previous_run_id", "forked_upto"})


async def gathered(items: AsyncIterator[T]) -> list[T]:
    """All of them."""
    return [item async for item in items]


@click.command("show")
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@output_option
@click.pass_context
def show_command(context: click.Context, /, workflow_id: str, run_id: str, output: str) -> None:
    """Show a run, its open steps, and in a sentence why it waits."""

    async def work(calls: Calls) -> RunDescription:
        return await with_places(calls, await calls.describe(workflow_id, run_id))

    run = call(settings_of(context), work)
    if output == "table":
        print_description(run)
    else:
        print_one({**run.raw, "why": run.why}, output)


def print_description(run: RunDescription) -> None:
    """A run for people: what it is, why it waits, what is open."""
    reason = why(run)
    said = reason if reason.startswith(run.status) else f"{run.status.replace('_', ' ')}: {reason}"
    click.echo(f"{run.workflow_id} is {said}")
    click.echo("")
    lines: dict[str, Any] = {
        "run": run.run_id,
        "type": f"{run.workflow_type} version {run.version}" if run.version else run.workflow_type,
        "started by": actor_text(run.raw.get("started_by")),
        "code": code_text(run.raw.get("code") or {}),
        "started_at_ms": run.started_at_ms,
        "closed_at_ms": run.closed_at_ms,
        "run time-out": str(timedelta(milliseconds=run.run_timeout_ms)) if run.run_timeout_ms else "",
        "run_ends_at_ms": run.run_ends_at_ms,
        "execution_ends_at_ms": run.execution_ends_at_ms if run.is_open else 0,
        "steps done": run.steps_done,
        "events": run.seq,
        "maps": progress_of(run),
        "summary": run.summary,
        "now": run.current_summary,
        "attributes": ", ".join(f"{name}={value}" for name, value in run.attributes.items()),
        "memo": "" if run.memo is None else dumps(run.memo),
        "patches": ", ".join(run.raw.get("patches") or ()),
        "failure": failure_text(run.raw.get("failure")),
        **relatives_of(run),
    }
    print_one(lines, "table")
    for rows, columns in (
        (run.pending_steps, ["step", "name", "state", "attempt", "since_ms", "next_at_ms", "failure"]),
        (run.children, ["step", "workflow_type", "workflow_id", "status", "run_id"]),
        (run.untaken_signals or (), ["seq", "name", "at_ms", "id"]),
        (run.rejections or (), REFUSED),
    ):
        if rows:
            click.echo("")
            print_rows([row._asdict() for row in rows], columns, "table")


def relatives_of(run: RunDescription) -> dict[str, Any]:
    """The runs that it comes from and that come from it, one line each."""
    before = (
        f"{run.previous_run_id}, forked behind its event {run.forked_upto}" if run.forked_upto else run.previous_run_id
    )
    return {
        "parent": "{} run {}, its step {}".format(*run.parent) if run.parent else "",
        "previous run": before,
        "next run": run.next_run_id,
        "forks": ", ".join(f"{fork.run_id} behind event {fork.upto}" for fork in run.forks),
        "rejections": refused_of(run),
        "untaken": f"{len(run.untaken_signals)} signals that its code has not taken" if run.untaken_signals else "",
    }


def refused_of(run: RunDescription) -> str:
    """How many commands about the run were refused, as far as that was found out."""
    if run.rejections is None:
        return f"more commands than were looked through: `orchestrator workflow history {run.workflow_id} --rejections`"
    return "the newest refused commands are below" if run.rejections else ""


def actor_text(actor: Any) -> str:
    """Who asked, and whether that is verified or claimed."""
    return named(Actor(**actor)) if isinstance(actor, dict) else ""


def code_text(code: dict[str, str]) -> str:
    """Which code the run was started on, digests cut; `-o json` has them whole."""
    parts = []
    for member, word in (("source_sha256", "source"), ("image", "image"), ("engine", "engine"), ("python", "python")):
        said = code.get(member) or ""
        kind, colon, digest = said.rpartition(":")
        short = said if member in ("engine", "python") else f"{kind}{colon}{digest[:DIGITS]}"
        parts += [f"{word} {short}"] if said else []
    return ", ".join(parts)


def progress_of(run: RunDescription) -> str:
    """How far its maps are: `pack 3 of 10 (1 failed)`."""
    return ", ".join(
        f"{one.name} {one.done + one.failed} of {one.total}" + (f" ({one.failed} failed)" if one.failed else "")
        for one in run.maps
    )


def now_of(run: RunDescription) -> str:
    """An open run on one line, for those who watch it."""
    parts = [run.status.replace("_", " "), f"{run.steps_done} steps done", progress_of(run)]
    return f"{', '.join(part for part in parts if part)}: {why(run)}"


def why(run: RunDescription) -> str:
    """The engine's sentence for an open run; for one that ended, what its end says."""
    if run.is_open:
        return run.why or "it can run at once"
    failure = failure_text(run.raw.get("failure"))
    return failure or f"it ended at {time_text(run.closed_at_ms)}"


def value_text(value: Any) -> str:
    """A value in a line of history; of one in a blob its size and the beginning of its name. `-o json` has it whole."""
    blob = value.get("blob") if isinstance(value, dict) and "$codec" in value else None
    return f"(blob {blob['name'][:DIGITS]}, {blob['size']:,} bytes)" if blob else dumps(value)


@click.command("history")
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@click.option("--from", "from_seq", type=click.IntRange(min=1), default=1, show_default=True, help="First event.")
@click.option("--limit", type=click.IntRange(min=1), default=None, help="At most so many events; all if not given.")
@click.option(
    "--rejections", is_flag=True, help="Instead, the refused commands about it; without --run, of all its runs."
)
@output_option
@click.pass_context
def history_command(
    context: click.Context,
    /,
    workflow_id: str,
    run_id: str,
    from_seq: int,
    limit: int | None,
    rejections: bool,
    output: str,
) -> None:
    """Print a run's history as it comes, page by page: however long it is, a page is held.

    With --limit the last line on stderr says from which event to go on. What was refused is no part of a history: with
    --rejections the refused commands of the last 14 days are printed, oldest first; --limit leaves the oldest out.
    """
    if rejections:
        _print_rejections(context, workflow_id, run_id, limit, output)
        return

    async def work(calls: Calls) -> int | None:
        return await _print_history(calls.history(workflow_id, run_id, from_seq), limit, output)

    following = call(settings_of(context), work)
    if following is not None:
        say(f"there is more: --from {following}")


def _print_rejections(context: click.Context, workflow_id: str, run_id: str, limit: int | None, output: str) -> None:
    async def work(calls: Calls) -> list[Rejection]:
        return await gathered(calls.rejections(workflow_id, run_id))

    found = sorted(call(settings_of(context), work), key=lambda one: (one.at_ms, one.command_id))
    rows = [one._asdict() for one in (found[-limit:] if limit else found)]
    print_rows(rows, ["run_id", *REFUSED], output)


async def _print_history(events: AsyncIterator[HistoryEvent], limit: int | None, output: str) -> int | None:
    """Print at most so many; the first that is left out, if there is one."""
    printer = RowStream(["seq", "at_ms", "type", "what"], output)
    async for event in events:
        if printer.count == limit:
            printer.end()
            return event.seq
        printer.row(event_row(event) if output == "table" else event.raw)
    printer.end()
    return None


def event_row(event: HistoryEvent) -> dict[str, Any]:
    """An event as a line of a table."""
    return {"seq": event.seq, "at_ms": event.at_ms, "type": event.type, "what": event_summary(event)}


def lineage(event: HistoryEvent) -> str:
    """That an event is a copy, which a fork's history begins with; of a first event the run before, if there is one."""
    before, upto = event.body.get("previous_run_id"), event.body.get("forked_upto")
    if before:
        return f"forked from {before} behind event {upto}" if upto else f"continues {before}"
    return "(copied)" if event.copied_at_ms else ""


def event_summary(event: HistoryEvent) -> str:
    """What an event says beyond its type, on one line; where it is from and whose it is first, for it may be cut."""
    parts = [text for text in (lineage(event),) if text]
    if "path" in event.body and "n" in event.body:
        parts.append(f"{event.body['path']}:{event.body['n']}")
    if who := actor_text(event.body.get("actor")):
        parts.append(f"by {who}")
    if spoken_for := event.body.get("by"):
        parts.append(f"for {spoken_for}")
    for name, value in sorted(event.body.items(), key=lambda member: PLACES.get(member[0], 0)):
        if name in QUIET or name in LINEAGE or value in (None, "", 0, [], {}):
            continue
        if name == "failure":
            text = failure_text(value)
        elif name.endswith("_at_ms"):
            text = f"{name.removesuffix('_ms')}={time_text(value)}"
        else:
            text = value if name == "name" else f"{name}={value if isinstance(value, str) else value_text(value)}"
        parts.append(text)
    return cell("what", " ".join(parts))


@click.command("list")
@status_option
@click.option("--type", "workflow_type", default="", help="Only runs of this workflow.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="At most so many.")
@where_option
@output_option
@click.pass_context
def list_command(
    context: click.Context, /, status: str, workflow_type: str, limit: int, where: tuple[Where, ...], output: str
) -> None:
    """List runs, asking every partition; newest first."""

    async def work(calls: Calls) -> list[RunSummary]:
        return await gathered(calls.runs(status, workflow_type, limit, where))

    runs = sorted(call(settings_of(context), work), key=lambda run: -run.started_at_ms)
    rows = [{**run.raw, "now": run.summary} for run in runs] if output == "table" else [run.raw for run in runs]
    columns = ["workflow_id", "workflow_type", "status", "started_at_ms", "run_id"]
    print_rows(rows, [*columns, "now"] if any(run.summary for run in runs) else columns, output)
