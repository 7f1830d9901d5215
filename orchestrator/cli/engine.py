"""`orchestrator engine`: the process that owns partitions and runs workflows."""

from __future__ import annotations

import click

from . import exits
from .session import settings_of


@click.group()
def engine() -> None:
    """Run an engine."""


@engine.command("run")
@click.pass_context
def run_command(context: click.Context) -> None:
    """Own partitions of the application and run its workflows until SIGTERM or Ctrl-C, which drain first."""
    settings = settings_of(context)
    settings.required_app()
    from orchestrator.engine.run import run_engine

    code = run_engine(settings)
    if code:
        raise exits.Exit(code)
