"""`orchestrator engine`: the process that owns partitions and runs workflows."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import click

from orchestrator.errors import ConfigurationError, OrchestratorError

from . import exits
from .output import output_option, print_rows
from .owned import end_with_owner
from .session import settings_of

ANSWER_S = 5.0


@click.group()
def engine() -> None:
    """Run an engine, or ask one what it does."""


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


@engine.command("status")
@click.option("--url", default="", help="Its health port, as in http://10.0.0.7:8080; else this machine's settings.")
@output_option
@click.pass_context
def status_command(context: click.Context, /, url: str, output: str) -> None:
    """What an engine does with each partition: those that it owns, and those that it follows, with their lag.

    It reads the engine's health port (ORCHESTRATOR_HEALTH_PORT). Exit code 1 if the engine is not ready.
    """
    settings = settings_of(context)
    if not url and not settings.health_port:
        raise ConfigurationError("which engine? Give --url, or set ORCHESTRATOR_HEALTH_PORT as it is for the engine")
    health = _health(url or f"http://{settings.health_host}:{settings.health_port}")
    rows = [{"partition": int(number), "state": state} for number, state in health["partitions"].items()]
    rows += [{"partition": int(number), "state": "standby", **warm} for number, warm in health["standby"].items()]
    print_rows(sorted(rows, key=lambda row: row["partition"]), ["partition", "state", "behind", "problem"], output)
    if health["rights"] != "ok":
        click.echo(health["rights"], err=True)
    if not health["ok"]:
        raise exits.Exit(exits.FAILED)


def _health(url: str) -> dict[str, Any]:
    """What `/ready` answers; 503 is an answer, too. Raises OrchestratorError when there is none of an engine."""
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{url}: must be an address, as in http://127.0.0.1:8080")
    try:
        with urllib.request.build_opener(_Unready).open(f"{url.rstrip('/')}/ready", timeout=ANSWER_S) as answer:
            found: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise OrchestratorError(f"{url} does not answer as an engine does: {reason}") from error
    if "partitions" not in found:
        raise OrchestratorError(f"{url} is no engine's health port: it tells of no partitions")
    return {"standby": {}, "rights": "ok", **found}


class _Unready(urllib.request.HTTPErrorProcessor):
    """An engine that is not ready answers like one that is."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response
