"""`orchestrator batch`: steer many runs at once, chosen by a filter. Nothing is done without `--yes`."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import click

from orchestrator.client.batches import (
    Action,
    Done,
    Selection,
    Steering,
    carried_out,
    chosen,
    forking,
    resetting,
    signalling,
    steering,
)
from orchestrator.client.calls import Calls
from orchestrator.client.requests import Request
from orchestrator.client.views import RunSummary, json_payload
from orchestrator.core.commands import StartWorkflow
from orchestrator.core.values import Payload

from . import exits
from .arguments import Filled, check_start, status_option, value_of, where_option, workflow_arguments
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


def _run(context: click.Context, action: Action, options: dict[str, Any]) -> None:
    selection = Selection(options["status"], options["workflow_type"], options["limit"], options["where"])
    batch_id = str(options["batch_id"] or f"batch-{secrets.token_hex(6)}")
    output = str(options["output"])
    line = Progress()

    async def work(calls: Calls) -> tuple[list[RunSummary], list[Done]]:
        runs = await chosen(calls, action, selection)
        if not options["yes"]:
            return runs, []
        count = 0

        def told(done: Done) -> None:
            nonlocal count
            count += 1
            line.show(f"{action.name}: {count} of {len(runs)}")

        say(f"batch {batch_id}: {len(runs)} runs; if it is cut off, go on with --batch {batch_id}")
        done = await carried_out(calls, runs, action, batch_id, Request(reason=options["reason"]), told)
        return runs, done

    runs, done = call(settings_of(context), work)
    line.clear()
    if not options["yes"]:
        print_rows([run.raw for run in runs], ["workflow_id", "workflow_type", "status", "run_id"], output)
        say(f"{action.name}: {len(runs)} runs would be asked; --yes does it")
        return
    counts = Counter(one.outcome for one in done)
    others = [one._asdict() for one in done if one.outcome != "done"]
    if output == "table":
        print_rows(others, ["workflow_id", "run_id", "outcome", "message"], output)
        say(f"{action.name}: {counts['done']} done, {counts['refused']} refused, {counts['unknown']} unknown")
    else:
        print_one({"batch_id": batch_id, **{kind: counts[kind] for kind in ("done", "refused", "unknown")},
                   "others": others}, output)  # fmt: skip
    if others:
        raise exits.Exit(exits.FAILED)


def _command(name: Steering, help_text: str) -> click.Command:
    @click.command(name, help=help_text)
    @_batch_options
    @click.pass_context
    def command(context: click.Context, /, **options: Any) -> None:
        _run(context, steering(name), options)

    return command


batch.add_command(_command("cancel", "Ask open runs to end; their code may clean up."))
batch.add_command(_command("terminate", "End open runs at once."))
batch.add_command(_command("retry", "Let parked runs go on, after a fix."))
batch.add_command(_command("pause", "Let the code of running runs stand still."))
batch.add_command(_command("resume", "Let paused runs go on."))


@batch.command()
@click.option("--event", type=click.IntRange(min=1), default=None, help="The last event that is kept (see history).")
@click.option("--drop-signals", is_flag=True, help="Forget signals that came after it.")
@_batch_options
@click.pass_context
def reset(context: click.Context, /, event: int | None, drop_signals: bool, **options: Any) -> None:
    """Let failed runs go on, as new runs, from their failed step; with --event any run, from behind it.

    Of each workflow id the newest run alone is meant.
    """
    _run(context, resetting(event or 0, not drop_signals), options)


@batch.command()
@click.argument("step", type=Filled())
@click.option("--input", "given", default="", metavar="JSON",
              help="Other arguments of the workflow (--type), an object by name, @file or -.")  # fmt: skip
@_batch_options
@click.pass_context
def fork(context: click.Context, /, step: str, given: str, **options: Any) -> None:
    """Let runs go on, as new runs, from before STEP (its id or its name).

    Of each workflow id the newest run alone is meant.
    """
    edited = _edited(context, given, options["workflow_type"]) if given else None
    _run(context, forking(step, edited), options)


def _edited(context: click.Context, given: str, workflow_type: str) -> Callable[[RunSummary], Payload]:
    """The other arguments of a run, compared with the code of its version if that is at hand."""
    if not workflow_type:
        raise click.UsageError("--input needs --type: arguments are those of one workflow")
    payload = json_payload(workflow_arguments((), given))

    @cache
    def of_version(version: int) -> Payload:
        check_start(settings_of(context), StartWorkflow(workflow_type, payload, version))
        return payload

    return lambda run: of_version(run.version)


@batch.command()
@click.argument("name", type=Filled())
@click.argument("value", default="null")
@_batch_options
@click.pass_context
def signal(context: click.Context, /, name: str, value: str, **options: Any) -> None:
    """Deliver signal NAME with VALUE (JSON, else text) to open runs."""
    payload = json_payload(value_of(value))
    _run(context, signalling(name, payload), options)
