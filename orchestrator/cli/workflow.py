"""`orchestrator workflow`: start, watch and steer runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from orchestrator.client.calls import Calls
from orchestrator.client.requests import Request
from orchestrator.client.updates import update_answer
from orchestrator.client.views import json_payload, json_value
from orchestrator.core.commands import ForkWorkflow, StartWorkflow
from orchestrator.core.tasks import Reply
from orchestrator.core.values import NOTHING

from . import exits
from .arguments import Filled, Seconds, attribute_of, check_start, json_of, value_of, workflow_arguments
from .output import output_option, print_one, print_value, say
from .run_debug import debug_command
from .run_replay import replay_command
from .run_views import history_command, list_command, show_command
from .run_wait import wait_and_report, wait_command, watch_command
from .session import call, request_of, request_options, settings_of


@click.group()
def workflow() -> None:
    """Start, watch and steer runs."""


for _command in (
    show_command,
    history_command,
    list_command,
    wait_command,
    watch_command,
    debug_command,
    replay_command,
):
    workflow.add_command(_command)


def _start_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.argument("workflow_type", metavar="TYPE"),
        click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]..."),
        click.option("--id", "workflow_id", default="", help="The workflow's id; made up if not given."),
        click.option("--input", "given", default="", metavar="JSON", help="Arguments as a JSON object, @file or -."),
        click.option("--version", type=int, default=0, help="The workflow's version; the newest if not given."),
        click.option("--conflict", type=click.Choice(["fail", "use_existing", "terminate_existing"]), default="fail",
                     show_default=True, help="If a run of this id is open."),
        click.option("--reuse", type=click.Choice(["allow", "allow_if_failed", "reject"]), default="allow",
                     show_default=True, help="If a run of this id has closed."),
        click.option("--delay", type=Seconds(), default=0.0, metavar="SECONDS", help="Begin that much later."),
        click.option("--execution-timeout", type=Seconds(), default=0.0, metavar="SECONDS",
                     help="For the run and those that continue it."),
        click.option("--run-timeout", type=Seconds(), default=0.0, metavar="SECONDS", help="For the run."),
        click.option("--signal", default="", metavar="NAME[=JSON]",
                     help="Deliver a signal with the start, or to the run of this id that is open."),
        click.option("--memo", default="", metavar="JSON", help="A note kept with the run."),
        click.option("--attribute", "attributes", multiple=True, metavar="NAME=JSON", help="What it can be found by."),
        click.option("--summary", default="", help="What it is about, in a few words, for lists."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return request_options(output_option(command))


def _start_body(options: dict[str, Any]) -> StartWorkflow:
    signal, _, value = str(options["signal"]).partition("=")
    return StartWorkflow(
        workflow_type=options["workflow_type"],
        arguments=json_payload(workflow_arguments(options["arguments"], options["given"])),
        version=options["version"],
        conflict=options["conflict"],
        reuse=options["reuse"],
        start_delay_ms=round(options["delay"] * 1000),
        execution_timeout_ms=round(options["execution_timeout"] * 1000),
        run_timeout_ms=round(options["run_timeout"] * 1000),
        memo=json_payload(json_of(options["memo"], "--memo") if options["memo"] else None),
        attributes=tuple(attribute_of(one) for one in options["attributes"]),
        summary=options["summary"],
        signal=signal,
        signal_payload=json_payload(json_of(value, "--signal") if value else None),
    )


def _id_of(options: dict[str, Any], request: Request) -> str:
    return str(options["workflow_id"] or request.workflow_id(options["workflow_type"]))


def _answer(reply: Reply) -> dict[str, Any]:
    return {
        "workflow_id": reply.workflow_id,
        "run_id": reply.run_id,
        "outcome": reply.code or reply.outcome,
        "command_id": reply.command_id,
    }


async def _answered(calls: Calls, accepted: Reply, name: str) -> Any:
    """What an update that was accepted is answered with."""
    answer = await calls.update_outcome(accepted.workflow_id, accepted.run_id, accepted.command_id)
    return json_value(update_answer(answer, name).result, f"the answer of update {name}")


@workflow.command()
@_start_options
@click.option("--update", "update_text", default="", metavar="NAME[=JSON]",
              help="Send an update to it, or to the run of this id that is open; print the answer too.")  # fmt: skip
@click.pass_context
def start(context: click.Context, /, output: str, update_text: str, **options: Any) -> None:
    """Start a run of TYPE, with its arguments by name, and print where it is.

    With --update a run of this id that is open is no conflict; the start stands even if the update is refused.
    """
    request, body = request_of(options).identified(), _start_body(options)
    workflow_id = _id_of(options, request)
    name, _, value = update_text.partition("=")
    payload = json_payload(json_of(value, "--update") if value else None)
    if update_text and not name:
        raise click.UsageError("--update: write NAME or NAME=JSON")
    check_start(settings_of(context), body)

    async def work(calls: Calls) -> dict[str, Any]:
        if not update_text:
            return _answer(await calls.start(workflow_id, body, request))
        started = await calls.start_to_update(workflow_id, body, request)
        say(f"{workflow_id} runs (run {started.run_id}); update {name} is sent")
        reply = await calls.update(workflow_id, name, payload, started.run_id, request)
        return {**_answer(started), "command_id": reply.command_id, "answer": await _answered(calls, reply, name)}

    print_one(call(settings_of(context), work), output)


@workflow.command()
@_start_options
@click.pass_context
def execute(context: click.Context, /, output: str, **options: Any) -> None:
    """Start a run of TYPE and wait for its result; --timeout bounds the whole wait.

    Exit code 1 if the run fails, is cancelled or terminated; 4 if it has not ended in time (it goes on).
    """
    request, body = request_of(options).identified(), _start_body(options)
    workflow_id = _id_of(options, request)
    check_start(settings_of(context), body)

    async def work(calls: Calls) -> int:
        started = await calls.start(workflow_id, body, request)
        return await wait_and_report(calls, workflow_id, started.run_id, request.timeout_s, output)

    _finish(call(settings_of(context), work))


@workflow.command()
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.argument("name")
@click.argument("value", default="null")
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@request_options
@output_option
@click.pass_context
def signal(context: click.Context, /, workflow_id: str, name: str, value: str, output: str, **options: Any) -> None:
    """Send signal NAME with VALUE (JSON, else text) to a run; durable when this returns."""
    request, run_id = request_of(options), str(options["run_id"])

    async def work(calls: Calls) -> Reply:
        return await calls.signal(workflow_id, name, json_payload(value_of(value)), run_id, request)

    print_one(_answer(call(settings_of(context), work)), output)


@workflow.command()
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.argument("name")
@click.argument("value", default="null")
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@click.option("--accepted", is_flag=True, help="Return when it is accepted; do not wait for the answer.")
@request_options
@output_option
@click.pass_context
def update(context: click.Context, /, workflow_id: str, name: str, value: str, output: str, **options: Any) -> None:
    """Send update NAME with VALUE (JSON: an object of arguments for the class form; else text), print the answer.

    The command id is the update's: sent again with the same one, it is the same update.
    """
    request, run_id = request_of(options), str(options["run_id"])

    async def work(calls: Calls) -> Any:
        reply = await calls.update(workflow_id, name, json_payload(value_of(value)), run_id, request)
        if options["accepted"]:
            return _answer(reply)
        return await _answered(calls, reply, name)

    found = call(settings_of(context), work)
    if options["accepted"]:
        print_one(found, output)
    else:
        print_value(found, output)


@workflow.command()
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.argument("name")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@click.option("--timeout", type=Seconds(), default=0.0, metavar="SECONDS", help="How long to wait for the answer.")
@output_option
@click.pass_context
def query(context: click.Context, /, workflow_id: str, name: str, output: str, **options: Any) -> None:
    """Ask the run's code question NAME and print the answer."""
    payload = json_payload(workflow_arguments(options["arguments"], ""))

    async def work(calls: Calls) -> Any:
        answer = await calls.code_query(workflow_id, name, payload, str(options["run_id"]))
        return json_value(answer, f"the answer of {name}")

    print_value(call(settings_of(context), work, options["timeout"]), output)


def _fork(context: click.Context, workflow_id: str, body: ForkWorkflow, options: dict[str, Any]) -> None:
    request = request_of(options)

    async def work(calls: Calls) -> Reply:
        return await calls.fork(workflow_id, body, request)

    print_one(_answer(call(settings_of(context), work)), str(options["output"]))


@workflow.command()
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.option("--step", required=True, help="Its id (0:3) or its name; of several of a name the last.")
@click.option(
    "--input", "given", default="", metavar="JSON", help="Other arguments of the workflow, an object by name."
)
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@request_options
@output_option
@click.pass_context
def fork(context: click.Context, /, workflow_id: str, step: str, given: str, **options: Any) -> None:
    """Go on as a new run from before a step: what was recorded before it is reused."""
    arguments = json_payload(workflow_arguments((), given)) if given else NOTHING
    _fork(context, workflow_id, ForkWorkflow(str(options["run_id"]), step=step, arguments=arguments), options)


@workflow.command()
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.option("--event", type=click.IntRange(min=1), default=None, help="The last event that is kept (see history).")
@click.option("--drop-signals", is_flag=True, help="Forget signals that came after it.")
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@request_options
@output_option
@click.pass_context
def reset(context: click.Context, /, workflow_id: str, event: int | None, **options: Any) -> None:
    """Go on as a new run from behind an event; without --event, a failed run from its failed step."""
    body = ForkWorkflow(str(options["run_id"]), event=event or 0, signals=not options["drop_signals"])
    _fork(context, workflow_id, body, options)


def _steer(name: str, help_text: str, done: Callable[..., Any]) -> click.Command:
    @click.command(name, help=help_text)
    @click.argument("workflow_id", metavar="ID", type=Filled())
    @click.option("--run", "run_id", default="", help="A certain run; else the newest.")
    @request_options
    @output_option
    @click.pass_context
    def command(context: click.Context, /, workflow_id: str, run_id: str, output: str, **options: Any) -> None:
        request = request_of(options)

        async def work(calls: Calls) -> Reply:
            reply: Reply = await done(calls, workflow_id, run_id, request)
            return reply

        print_one(_answer(call(settings_of(context), work)), output)

    return command


workflow.add_command(_steer("cancel", "Ask a run to end; its code may clean up first.", Calls.cancel))
workflow.add_command(_steer("terminate", "End a run at once; its code sees nothing.", Calls.terminate))
workflow.add_command(_steer("retry", "Let a parked run go on, after a fix.", Calls.retry))
workflow.add_command(_steer("pause", "Let a run's code stand still; what it has asked for goes on.", Calls.pause))
workflow.add_command(_steer("resume", "Let a paused run go on.", Calls.resume))


def _finish(code: int) -> None:
    if code != exits.OK:
        raise exits.Exit(code)
