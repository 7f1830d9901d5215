"""`orchestrator approval`: what waits for somebody's answer, over all runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from orchestrator.client.approvals import ApprovalRequest, Approvals
from orchestrator.client.calls import Calls
from orchestrator.core.tasks import Reply

from .output import output_option, print_one, print_rows
from .session import call, request_of, request_options, settings_of

COLUMNS = ("id", "name", "to", "request", "asked_at_ms", "expires_at_ms")


F = TypeVar("F", bound=Callable[..., Any])


def answer_options(command: F) -> F:
    """What both answers take."""
    comment = click.option("--comment", default="", help="Recorded in the history, and given to the run's code.")
    digest = click.option("--digest", default="", help="What was looked at; without it, what stands now is answered.")
    return digest(comment(request_options(command)))


@click.group()
def approval() -> None:
    """What waits for somebody's answer."""


@approval.command("list")
@click.option("--name", default="", help="Only those of this name.")
@click.option("--to", default="", help="Only those for this addressee.")
@output_option
@click.pass_context
def list_(context: click.Context, /, name: str, to: str, output: str) -> None:
    """List what stands, over all runs."""

    async def work(calls: Calls) -> list[ApprovalRequest]:
        return [one async for one in Approvals(calls).list(name=name, to=to)]

    print_rows((_row(one, output) for one in call(settings_of(context), work)), COLUMNS, output)


@approval.command()
@click.argument("id")
@output_option
@click.pass_context
def show(context: click.Context, /, id: str, output: str) -> None:
    """Show what exactly is asked."""
    found = call(settings_of(context), lambda calls: Approvals(calls).describe(id))
    print_one(_row(found, output), output)


@approval.command()
@click.argument("id")
@answer_options
@output_option
@click.pass_context
def approve(context: click.Context, /, id: str, output: str, **options: Any) -> None:
    """Say yes."""
    _decide(context, id, output, True, options)


@approval.command()
@click.argument("id")
@answer_options
@output_option
@click.pass_context
def reject(context: click.Context, /, id: str, output: str, **options: Any) -> None:
    """Say no."""
    _decide(context, id, output, False, options)


def _decide(context: click.Context, id: str, output: str, approved: bool, options: dict[str, Any]) -> None:
    request = request_of(options)

    async def work(calls: Calls) -> tuple[str, Reply]:
        approvals = Approvals(calls, request)
        digest = options["digest"] or (await approvals.describe(id)).digest
        answer = approvals.approve if approved else approvals.reject
        return digest, await answer(id, digest, comment=options["comment"])

    digest, reply = call(settings_of(context), work)
    said = "approved" if approved else "rejected"
    print_one({"id": id, "answer": said, "digest": digest, "outcome": reply.outcome}, output)


def _row(one: ApprovalRequest, output: str) -> dict[str, Any]:
    row = one._asdict()
    if output == "table":
        row |= {"to": ", ".join(one.to), "request": json.dumps(one.request, ensure_ascii=False)}
    return row
