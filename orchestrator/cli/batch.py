"""`orchestrator batch`: steer many runs at once, chosen by a filter. Nothing is done without `--yes`."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import click

from orchestrator.client.batches import (
    Act,
    ActionName,
    Done,
    Selection,
    action,
    carried_out,
    chosen,
    forking,
    signalling,
)
from orchestrator.client.calls import Calls
from orchestrator.client.requests import Request
from orchestrator.client.views import RunSummary, json_payload

from . import exits
from .arguments import json_of, status_option, where_option
from .output import Progress, output_option, print_one, print_rows, say
from .session import call, settings_of


@click.group()
def batch() -> None:
    """Steer many runs at once. Without --yes it only shows which."""


def _batch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        status_option,
        click.option("--type", "workflow_type", default="", help="Only runs of this workflow."),
        where_option,
        click.option("--limit", type=click.IntRange(min=1), default=None, help="At most so many."),
        click.option("--yes", is_flag=True, help="Do it; without, a dry run shows what would be done."),
        click.option("--batch", "batch_id", default="", help="Go on with a batch that was cut off, by its id."),
        click.option("--reason", default="", help="Why; recorded in the history of each."),
    )
    for option in reversed(options):
        command = option(command)
    return output_option(command)


def _run(context: click.Context, name: str, make: Callable[[Calls], Act], options: dict[str, Any]) -> None:
    selection = Selection(options["status"], options["workflow_type"], options["limit"], options["where"])
    batch_id = str(options["batch_id"] or f"batch-{secrets.token_hex(6)}")
    output = str(options["output"])
    line = Progress()

    async def work(calls: Calls) -> tuple[list[RunSummary], list[Done]]:
        runs = await chosen(calls, name, selection)
        if not options["yes"]:
            return runs, []
        count = 0

        def told(done: Done) -> None:
            nonlocal count
            count += 1
            line.show(f"{name}: {count} of {len(runs)}")

        say(f"batch {batch_id}: {len(runs)} runs; if it is cut off, go on with --batch {batch_id}")
        return runs, await carried_out(runs, make(calls), batch_id, Request(reason=options["reason"]), told)

    runs, done = call(settings_of(context), work)
    line.clear()
    if not options["yes"]:
        print_rows([run.raw for run in runs], ["workflow_id", "workflow_type", "status", "run_id"], output)
        say(f"{name}: {len(runs)} runs would be asked; --yes does it")
        return
    counts = Counter(one.outcome for one in done)
    others = [one._asdict() for one in done if one.outcome != "done"]
    if output == "table":
        print_rows(others, ["workflow_id", "run_id", "outcome", "message"], output)
        say(f"{name}: {counts['done']} done, {counts['refused']} refused, {counts['unknown']} unknown")
    else:
        print_one({"batch_id": batch_id, **{kind: counts[kind] for kind in ("done", "refused", "unknown")},
                   "others": others}, output)  # fmt: skip
    if others:
        raise exits.Exit(exits.FAILED)


def _command(name: ActionName, help_text: str) -> click.Command:
    @click.command(name, help=help_text)
    @_batch_options
    @click.pass_context
    def command(context: click.Context, /, **options: Any) -> None:
        _run(context, name, lambda calls: action(calls, name), options)

    return command


_HELP = {
    "cancel": "Ask open runs to end; their code may clean up.",
    "terminate": "End open runs at once.",
    "retry": "Let parked runs go on, after a fix.",
    "pause": "Let the code of running runs stand still.",
    "resume": "Let paused runs go on.",
    "reset": "Let failed runs go on, as new runs, from their failed step.",
}
for _name, _text in _HELP.items():
    batch.add_command(_command(cast(ActionName, _name), _text))


@batch.command()
@click.argument("name")
@click.argument("value", default="null")
@_batch_options
@click.pass_context
def signal(context: click.Context, /, name: str, value: str, **options: Any) -> None:
    """Deliver signal NAME with VALUE (JSON) to open runs."""
    payload = json_payload(json_of(value, "VALUE"))
    _run(context, "signal", lambda calls: signalling(calls, name, payload), options)


@batch.command()
@click.argument("step")
@_batch_options
@click.pass_context
def fork(context: click.Context, /, step: str, **options: Any) -> None:
    """Let runs go on, as new runs, from before STEP (its id or its name)."""
    _run(context, "fork", lambda calls: forking(calls, step), options)
