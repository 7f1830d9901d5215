"""`orchestrator step`: end or retry a step from outside, or say that it is alive."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import click

from orchestrator.client.calls import Calls
from orchestrator.client.requests import Request
from orchestrator.client.views import json_payload
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Failure

from .arguments import Filled, value_of
from .output import output_option, print_one
from .session import call, request_of, request_options, settings_of

Resolve = Callable[[Calls, Request], Coroutine[Any, Any, Reply]]


@click.group()
def step() -> None:
    """End or retry a step from outside: one that is parked, or one whose result you have.

    STEP is its identity as `orchestrator workflow show ID` prints it, as in 0:3.
    """


def _resolve(context: click.Context, step_id: str, output: str, options: dict[str, Any], resolve: Resolve) -> None:
    request = request_of(options)

    async def work(calls: Calls) -> Reply:
        return await resolve(calls, request)

    reply = call(settings_of(context), work)
    answer = {"workflow_id": reply.workflow_id, "run_id": reply.run_id, "step": step_id, "outcome": reply.code}
    print_one(answer, output)


@step.command()
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.argument("step_id", metavar="STEP")
@click.argument("result", default="null")
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@request_options
@output_option
@click.pass_context
def complete(context: click.Context, /, workflow_id: str, step_id: str, result: str, **options: Any) -> None:
    """Complete STEP with RESULT (JSON, else text), as if it had returned that."""
    run_id, payload = str(options["run_id"]), json_payload(value_of(result))
    _resolve(
        context,
        step_id,
        options["output"],
        options,
        lambda calls, request: calls.complete_step(workflow_id, run_id, step_id, payload, request),
    )


@step.command()
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.argument("step_id", metavar="STEP")
@click.argument("message")
@click.option("--type", "error_type", default="StepFailed", show_default=True, help="The error's type.")
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@request_options
@output_option
@click.pass_context
def fail(context: click.Context, /, workflow_id: str, step_id: str, message: str, **options: Any) -> None:
    """Fail STEP with MESSAGE; the workflow's code sees the error. It is not retried."""
    run_id, failure = str(options["run_id"]), Failure(str(options["error_type"]), message, retryable=False)
    _resolve(
        context,
        step_id,
        options["output"],
        options,
        lambda calls, request: calls.fail_step(workflow_id, run_id, step_id, failure, request),
    )


@step.command()
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.argument("step_id", metavar="STEP")
@click.argument("details", default="null")
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@request_options
@output_option
@click.pass_context
def heartbeat(context: click.Context, /, workflow_id: str, step_id: str, details: str, **options: Any) -> None:
    """Say that STEP is alive; its next attempt gets DETAILS (JSON, else text)."""
    run_id, payload = str(options["run_id"]), json_payload(value_of(details))
    _resolve(
        context,
        step_id,
        options["output"],
        options,
        lambda calls, request: calls.beat_step(workflow_id, run_id, step_id, payload, request),
    )


@step.command()
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.argument("step_id", metavar="STEP")
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@request_options
@output_option
@click.pass_context
def retry(context: click.Context, /, workflow_id: str, step_id: str, **options: Any) -> None:
    """Attempt STEP again: a parked one, or one that waits for its next attempt."""
    run_id = str(options["run_id"])
    _resolve(
        context,
        step_id,
        options["output"],
        options,
        lambda calls, request: calls.retry_step(workflow_id, run_id, step_id, request),
    )
