"""`orchestrator worker`: a process that runs steps offered on task queues."""

from __future__ import annotations

import click

from orchestrator.config import Settings

from . import exits
from .owned import end_with_owner
from .session import settings_of


@click.group()
def worker() -> None:
    """Run a worker of task queues."""


@worker.command("run")
@click.option("--queue", "queues", multiple=True, help="A task queue; repeat for more  [ORCHESTRATOR_QUEUES].")
@click.option("--owned", is_flag=True, hidden=True, help="End when stdin closes.")
@click.pass_context
def run_command(context: click.Context, /, queues: tuple[str, ...], owned: bool) -> None:
    """Take steps from task queues and run them until SIGTERM or Ctrl-C, which drain first."""
    settings: Settings = settings_of(context).with_changes(queues=queues or None)
    settings.required_app()
    if owned:
        end_with_owner()
    from orchestrator.worker.run import run_worker

    code = run_worker(settings)
    if code:
        raise exits.Exit(code)
