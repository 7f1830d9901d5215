"""`orchestrator topics`: create the application's topics, compare them with what they must be, grow, adopt them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from orchestrator.codec.registry import missing_schemas, register_schemas
from orchestrator.config import Settings
from orchestrator.errors import ConfigurationError
from orchestrator.log.config import LogConfig
from orchestrator.log.hanging import hanging_anywhere
from orchestrator.log.topics import Finding, check_topics, init_topics, partition_count

from . import exits
from .arguments import Seconds
from .output import output_option, print_rows, say
from .session import app_name, settings_of


@click.group()
def topics() -> None:
    """Create, check, grow and adopt the application's topics."""


def log_config(settings: Settings, name: str | None = None) -> LogConfig:
    """How to reach the application's log."""
    return LogConfig.of(settings, name or app_name(settings))


def queues_of(settings: Settings, named: tuple[str, ...] = ()) -> list[str]:
    """Task queues: those named, those of the settings, and those of the application's steps if its code is at hand."""
    found = {*named, *settings.queues}
    if settings.app:
        from orchestrator.worker.loading import load_app

        found |= {code.options.queue for code in load_app(settings.app).registry.steps()}
    return sorted(found - {""})


def existing(config: LogConfig, numbers: Iterable[int]) -> None:
    """Refuse partitions that the application does not have. Raises ConfigurationError."""
    count = partition_count(config, "events")
    wrong = [number for number in numbers if number >= count]
    if wrong:
        raise ConfigurationError(f"{config.app} has no partition {wrong[0]}: it has 0 to {count - 1}")


_queue_option = click.option("--queue", "queues", multiple=True, help="A task queue; repeat for more.")


def registered(settings: Settings) -> list[Finding]:
    """Whether the schemas are registered; nothing without a registry."""
    if not settings.registry_url:
        return []
    missing = missing_schemas(settings)
    what = f"{len(missing)} schemas are not registered" if missing else "every schema is registered"
    return [Finding(not missing, what, "orchestrator topics init" if missing else "")]


@topics.command("init")
@_queue_option
@click.option("--partitions", type=click.IntRange(1, 4096), help="Of commands and events  [ORCHESTRATOR_PARTITIONS].")
@click.option("--replication-factor", type=click.IntRange(0, 32), help="0: three, or as many as there are brokers.")
@output_option
@click.pass_context
def init(context: click.Context, /, queues: tuple[str, ...], output: str, **options: Any) -> None:
    """Create what is missing, and register the schemas if a registry is named; harmless to run again."""
    settings = settings_of(context).with_changes(**options)
    config = log_config(settings)
    created = init_topics(config, settings.partitions, queues_of(settings, queues), settings.replication_factor)
    print_rows([{"topic": name, "did": "created"} for name in created], ["topic", "did"], output)
    if not created:
        say(f"every topic of {config.app} was there")
    count = partition_count(config, "events")
    if options["partitions"] not in (None, count):
        say(f"{config.app} has {count} partitions and keeps them; more: orchestrator topics grow N")
    if settings.registry_url:
        say(f"{register_schemas(settings)} schemas are registered")


@topics.command("check")
@_queue_option
@output_option
@click.pass_context
def check(context: click.Context, /, queues: tuple[str, ...], output: str) -> None:
    """Compare the topics and the brokers with what the engine relies on; exit code 1 if something differs.

    Transactions that stay open, and hide the end of a partition, are named too.
    """
    settings = settings_of(context)
    config = log_config(settings)
    findings = check_topics(config, queues_of(settings, queues)) + registered(settings)
    findings += [Finding(False, one.what(), one.remedy()) for one in hanging_anywhere(config)]
    rows = [{"verdict": "ok" if found.ok else "bad", "what": found.what, "remedy": found.remedy} for found in findings]
    print_rows(rows, ["verdict", "what", "remedy"], output)
    if not all(found.ok for found in findings):
        raise exits.Exit(exits.FAILED)


@topics.command("grow")
@click.argument("partitions", type=click.IntRange(2, 4096))
@click.option("--yes", is_flag=True, help="Do it; without it, it is only said what would be done.")
@click.option("--reason", default="", help="Why; recorded in every partition's log.")
@click.option("--timeout", "timeout_s", type=Seconds(), default=60.0, show_default=True, metavar="SECONDS",
              help="How long a partition's owner may take to record it.")  # fmt: skip
@output_option
@click.pass_context
def grow_command(context: click.Context, /, yes: bool, output: str, **options: Any) -> None:
    """Give commands, events, replies and task queues PARTITIONS partitions. Engines must be running, and go on.

    Runs that exist stay on their partitions; new workflow ids spread over all of them. It cannot be taken back. Killed
    half way, or after somebody changed the topics behind our back: run it again. Exit code 1 if a partition has not
    recorded it.
    """
    from . import grow as growing

    settings = settings_of(context)
    config = log_config(settings)
    wanted = growing.Growth(**options)
    if not yes:
        print_rows(growing.plan(settings, config, wanted), ["what", "from", "to"], output)
        say(f"nothing was changed: orchestrator topics grow {wanted.partitions} --yes")
        return
    rows = growing.grow(settings, config, wanted)
    print_rows(rows, ["partition", "ok", "says"], output)
    if not all(row["ok"] for row in rows):
        raise exits.Exit(exits.FAILED)


@topics.command("adopt")
@click.option("--partition", "numbers", type=click.IntRange(min=0), multiple=True,
              help="Only these; repeat for more. Else all with a state directory here.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Record the new topic ids; without it, they are only compared.")
@click.option("--skip-input", is_flag=True, help="Read commands from the topic's end on: what it has is not ours.")
@click.option("--reason", default="", help="Why; recorded in each partition's log.")
@output_option
@click.pass_context
def adopt_command(context: click.Context, /, output: str, **options: Any) -> None:
    """Go on with the same log under other topic ids: a cluster that moved, topics that were mirrored or restored.

    Engines must be stopped, their state directories here. The footer at each state's position must be on the log, with
    the same hash: another log is refused (`orchestrator partition repair`). Exit code 1 if something is left to do.
    """
    from . import adopt as adopting

    settings = settings_of(context)
    config, wish = log_config(settings), adopting.Wish(**options)
    existing(config, wish.numbers)
    rows = list(adopting.adoptions(settings, config, wish))
    print_rows(rows, ["partition", "ok", "says"], output)
    if not rows:
        say(f"no state directory in {settings.state_dir}: name partitions with --partition")
    if not all(row["ok"] for row in rows):
        raise exits.Exit(exits.FAILED)
