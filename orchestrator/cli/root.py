"""The `orchestrator` command: options that every command shares, and the way from an error to an exit code."""

from __future__ import annotations

import logging
import os
import select
import sys
import traceback
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import click

from orchestrator.config import Settings

from . import exits, starting
from .groups import Later, LazyGroup

SERVING = ("engine", "worker", "dev")
"""Nouns whose processes stay."""


class Root(LazyGroup):
    """Every noun, imported when it is used."""

    later: ClassVar[Mapping[str, Later]] = {
        "workflow": Later("orchestrator.cli.workflow:workflow", "Start, watch and steer runs."),
        "approval": Later("orchestrator.cli.approval:approval", "What waits for somebody's answer."),
        "event": Later("orchestrator.cli.event:event", "Events that runs wait for."),
        "schedule": Later("orchestrator.cli.schedule:schedule", "Start runs by the clock."),
        "batch": Later("orchestrator.cli.batch:batch", "Steer many runs at once, chosen by a filter."),
        "step": Later("orchestrator.cli.step:step", "End or retry a step from outside."),
        "topics": Later("orchestrator.cli.topics:topics", "Create, check, grow and adopt the application's topics."),
        "partition": Later("orchestrator.cli.partition:partition", "Repair a parked partition."),
        "upgrade": Later(
            "orchestrator.cli.upgrade:upgrade", "The log's feature level, and whether a rollback is safe."
        ),
        "checkpoint": Later("orchestrator.cli.checkpoint:checkpoint", "Look at checkpoints of partitions' states."),
        "blobs": Later("orchestrator.cli.blobs:blobs", "Look after large values."),
        "keys": Later("orchestrator.cli.keys:keys", "Keys that sign commands, so that it is known who sent them."),
        "audit": Later("orchestrator.cli.audit:audit", "Verify what is on the log."),
        "dead-letters": Later("orchestrator.cli.dead_letters:dead_letters", "Input that no run could take."),
        "doctor": Later("orchestrator.cli.doctor:doctor", "Check settings, cluster, topics and engines."),
        "engine": Later("orchestrator.cli.engine:engine", "Run an engine."),
        "worker": Later("orchestrator.cli.worker:worker", "Run a worker of task queues."),
        "entity": Later("orchestrator.cli.entity:entity", "Read entities and call their handlers."),
        "limits": Later("orchestrator.cli.limits:limits", "Who holds slots of limits, and who waits."),
        "dev": Later("orchestrator.cli.dev:dev", "Kafka, topics and engine in one command, for development."),
        "kafka": Later("orchestrator.cli.kafka:kafka", "Start and stop the embedded Kafka."),
        "completion": Later("orchestrator.cli.completion:completion", "Print the completion script of a shell."),
    }

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Whoever read our output and has enough (`| head`) makes no failure of it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if not _nobody_reads():
                # click would take any broken pipe for this one, and say nothing.
                raise RuntimeError(f"a process or server that was talked to went away ({error})") from error
            raise exits.Exit(exits.OK) from None


def _nobody_reads() -> bool:
    """Whether stdout is a pipe that its reader has closed; what is left for it then goes nowhere, without complaint."""
    try:
        number = sys.stdout.fileno()
    except ValueError:
        # Not a file at all.
        return False
    reader = select.poll()
    reader.register(number, 0)
    if not reader.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return True


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--app", metavar="MODULE:ATTR", help="The application's code, as in shop:app  [ORCHESTRATOR_APP].")
@click.option("--app-name", metavar="NAME", help="The application's name alone, when its code is not at hand.")
@click.option("--bootstrap", metavar="HOST:PORT", help="Kafka's bootstrap servers  [ORCHESTRATOR_BOOTSTRAP].")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug logs.")
@click.version_option(package_name="durable-orchestrator", prog_name="orchestrator")
@click.pass_context
def root(context: click.Context, /, app: str | None, app_name: str | None, bootstrap: str | None, debug: bool) -> None:
    """Durable execution on Kafka: start and steer runs, run engines and workers, look after the log.

    Settings come from ORCHESTRATOR_* variables; the options here win over them.
    """
    starting.hand_over()
    changes = {"app": app, "app_name": app_name, "bootstrap": bootstrap, "log_level": "DEBUG" if debug else None}
    settings = Settings.from_env().with_changes(**changes)
    context.obj = settings
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if context.invoked_subcommand not in SERVING and not debug:
        _hush(context)


def _hush(context: click.Context) -> None:
    """What librdkafka says of its connections is for those who look after a process: others get one sentence of it."""
    librdkafka = logging.getLogger("orchestrator.kafka")
    context.call_on_close(partial(librdkafka.setLevel, librdkafka.level))
    librdkafka.setLevel(logging.CRITICAL)


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code."""
    try:
        result = root.main(args=arguments, prog_name="orchestrator", standalone_mode=False)
    except exits.Exit as ended:
        return ended.code
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return exits.INTERRUPTED
    except click.NoSuchOption as error:
        error.show()
        if error.option_name.lstrip("-")[:1].isdigit():
            click.echo("A value that begins with a dash stands last, behind --, as in: ... -- -5", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        click.echo(f"error: {exits.sentence(error)}", err=True)
        return exits.code_of(error)
    return result if isinstance(result, int) else exits.OK
