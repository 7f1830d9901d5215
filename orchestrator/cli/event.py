"""`orchestrator event`: events of the application, which reach every run that waits for them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click

from orchestrator.client.events import list_events, send_event
from orchestrator.client.views import json_payload

from .output import output_option, print_one, print_rows
from .run_views import actor_text
from .session import call, request_of, request_options, settings_of

COLUMNS = ("id", "sent_at_ms", "payload", "actor")


@click.group()
def event() -> None:
    """Events that runs wait for."""


@event.command()
@click.argument("name")
@click.argument("payload", metavar="JSON", default="null")
@click.option("--id", "event_id", default="", help="Sent again with the same id, it reaches nobody twice.")
@request_options
@output_option
@click.pass_context
def send(context: click.Context, /, name: str, payload: str, event_id: str, output: str, **options: Any) -> None:
    """Send an event of the topic NAME to every run that waits for it and whose match fits."""
    request = request_of(options)
    if event_id:
        request = replace(request, command_id=event_id)
    try:
        value = json.loads(payload)
    except ValueError as error:
        raise click.BadParameter(f"{payload!r} is no JSON ({error}); a text needs quotes: '\"text\"'") from error
    reply = call(settings_of(context), lambda calls: send_event(calls, name, json_payload(value), request))
    print_one({"name": name, "id": reply.command_id, "outcome": reply.outcome}, output)


@event.command("list")
@click.argument("name")
@output_option
@click.pass_context
def list_(context: click.Context, /, name: str, output: str) -> None:
    """List the events of the topic NAME that are kept (an hour), oldest first."""
    found = call(settings_of(context), lambda calls: list_events(calls, name))
    rows = (
        {
            **one._asdict(),
            "payload": _shown(one.payload, output),
            "actor": actor_text(one.actor) if output == "table" else one.actor,
        }
        for one in found.events
    )
    print_rows(rows, COLUMNS, output)


def _shown(payload: Any, output: str) -> Any:
    return json.dumps(payload, ensure_ascii=False) if output == "table" else payload
