"""`orchestrator entity`: read entities and call their handlers."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.client.calls import Calls
from orchestrator.client.entity import ask_entity
from orchestrator.client.views import json_object, json_payload, json_value
from orchestrator.core.commands import StartWorkflow
from orchestrator.core.tasks import Reply
from orchestrator.sdk.entity import QUEUE, entity_id

from . import exits
from .arguments import Seconds, check_entity, check_start, workflow_arguments
from .output import output_option, print_one, print_value
from .run_wait import wait_and_report
from .session import call, request_of, request_options, settings_of


@click.group()
def entity() -> None:
    """Read entities and call their handlers."""


@entity.command()
@click.argument("name")
@click.argument("key")
@output_option
@click.pass_context
def show(context: click.Context, /, name: str, key: str, output: str) -> None:
    """Show the entity NAME KEY: its state, the run of the call that has its turn, and how many calls wait."""

    check_entity(settings_of(context), name)

    async def work(calls: Calls) -> Reply:
        return await calls.ask(entity_id(name, key), "entity")

    print_one(json_object(call(settings_of(context), work), f"the description of {entity_id(name, key)}"), output)


@entity.command()
@click.argument("name")
@click.argument("key")
@click.argument("method")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--timeout", type=Seconds(), default=0.0, metavar="SECONDS", help="How long to wait for the answer.")
@output_option
@click.pass_context
def query(context: click.Context, /, name: str, key: str, method: str, output: str, **options: Any) -> None:
    """Read by a query of the entity, with its arguments by name, and print the answer."""
    payload = json_payload(workflow_arguments(options["arguments"], ""))
    check_entity(settings_of(context), name)

    async def work(calls: Calls) -> Any:
        answer = await ask_entity(calls, entity_id(name, key), method, payload)
        return json_value(answer, f"the answer of {method}")

    print_value(call(settings_of(context), work, options["timeout"]), output)


def _call(name: str, help_text: str, *, waits: bool) -> click.Command:
    @click.command(name, help=help_text)
    @click.argument("name")
    @click.argument("key")
    @click.argument("method")
    @click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
    @click.option("--input", "given", default="", metavar="JSON", help="Arguments as a JSON object, @file or -.")
    @request_options
    @output_option
    @click.pass_context
    def command(context: click.Context, /, name: str, key: str, method: str, output: str, **options: Any) -> None:
        request, workflow_id = request_of(options), entity_id(name, key)
        payload = json_payload(workflow_arguments(options["arguments"], options["given"]))
        body = StartWorkflow(f"{name}.{method}", payload, conflict=QUEUE)
        check_entity(settings_of(context), name)
        check_start(settings_of(context), body)

        async def work(calls: Calls) -> int:
            reply = await calls.start(workflow_id, body, request)
            if waits:
                return await wait_and_report(calls, workflow_id, reply.run_id, request.timeout_s, output)
            print_one({"workflow_id": workflow_id, "run_id": reply.run_id, "command_id": reply.command_id}, output)
            return exits.OK

        code = call(settings_of(context), work)
        if code != exits.OK:
            raise exits.Exit(code)

    return command


entity.add_command(_call("call", "Call the handler METHOD of the entity NAME KEY and print its result.", waits=True))
entity.add_command(_call("send", "Call METHOD; durable when this returns, and carried out in its turn.", waits=False))
