"""`orchestrator engine`: the process that owns partitions and runs workflows."""

from __future__ import annotations

import click

from . import exits
from .owned import end_with_owner
from .session import settings_of


@click.group()
def engine() -> None:
    """Run an engine."""


@engine.command("run")
@click.option("--owned", is_flag=True, hidden=True, help="End when stdin closes.")
@click.pass_context
def run_command(context: click.Context, /, owned: bool) -> None:
    """Own partitions of the application and run its workflows until SIGTERM or Ctrl-C, which drain first."""
    settings = settings_of(context)
    settings.required_app()
    if owned:
        end_with_owner()
    from orchestrator.engine.process import run_engine
    from orchestrator.worker.build import executor_of, options_of
    from orchestrator.worker.loading import load_app

    app = load_app(settings.app)
    options = options_of(settings.step_slots)
    code = run_engine(settings, app, executor_of(settings.app, app, settings.isolation, options))
    if code:
        raise exits.Exit(code)
