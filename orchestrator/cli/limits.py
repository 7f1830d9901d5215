"""`orchestrator limits`: what is held, and who waits."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.client.calls import Calls
from orchestrator.client.limits import LimitDescription, Limits
from orchestrator.client.views import JsonObject

from .output import output_option, print_one, print_rows
from .session import call, settings_of

COLUMNS = ("limit", "key", "held", "waiting", "concurrency", "rate", "strategy", "group")
TASK = ("state", "workflow_id", "run_id", "step", "attempt", "since_ms", "priority")


@click.group()
def limits() -> None:
    """Look at limits: who holds their slots, and who waits."""


@limits.command("list")
@output_option
@click.pass_context
def list_(context: click.Context, /, output: str) -> None:
    """List every limit and key that is held or waited for now, asking every partition."""

    async def work(calls: Calls) -> list[LimitDescription]:
        return [one async for one in Limits(calls).list()]

    print_rows((_row(one.raw) for one in call(settings_of(context), work)), COLUMNS, output)


@limits.command()
@click.argument("name")
@click.argument("key", default="")
@click.option("--group", default="default", show_default=True, help="The group of the limit.")
@output_option
@click.pass_context
def show(context: click.Context, /, name: str, key: str, group: str, output: str) -> None:
    """Show who holds limit NAME (for KEY), and who waits, in order."""
    found = call(settings_of(context), lambda calls: Limits(calls).describe(name, key, group))
    if output != "table":
        print_one(dict(found.raw), output)
        return
    print_one(_row(found.raw), output)
    click.echo()
    tasks = [{"state": "holds", **one} for one in found.raw["holders"]]
    tasks += [{"state": f"place {at}", **one} for at, one in enumerate(found.raw["queue"], 1)]
    print_rows(tasks, TASK, output)


def _row(raw: JsonObject) -> dict[str, Any]:
    rate = f"{raw['rate']} in {raw['rate_ms'] / 1000:g} s" if raw["rate"] else ""
    return {**{name: raw[name] for name in COLUMNS}, "rate": rate, "concurrency": raw["concurrency"] or ""}
