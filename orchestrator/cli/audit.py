"""`orchestrator audit`: prove what is on the log."""

from __future__ import annotations

from typing import Any, Literal, cast

import click

from orchestrator.codec.records import Codec
from orchestrator.log.reader import read_partition
from orchestrator.log.topics import topic_ids
from orchestrator.projections.audit import AuditOptions, Progress, verify
from orchestrator.projections.audit_report import as_json, lines

from . import exits
from .output import Progress as Line, dumps, output_option
from .session import settings_of
from .topics import log_config


@click.group()
def audit() -> None:
    """Verify what is on the log."""


@audit.command("verify")
@click.option("--partition", "numbers", type=click.IntRange(min=0), multiple=True, help="Only these; repeat for more.")
@click.option("--from", "from_offset", type=click.IntRange(min=0), default=0, show_default=True, help="First offset.")
@click.option("--level", type=click.Choice(["chain", "full"]), default="full", show_default=True,
              help="Hashes, chains and footers alone, or the laws of histories too.")  # fmt: skip
@output_option
@click.pass_context
def verify_command(context: click.Context, /, numbers: tuple[int, ...], output: str, **options: Any) -> None:
    """Verify chains, footers and the laws of histories over the events topic; exit code 1 if something is found."""
    config = log_config(settings_of(context))
    line = Line()

    def progress(done: Progress) -> None:
        line.show(f"partition {done.partition}: offset {done.offset}, {done.records} records")

    level = cast(Literal["chain", "full"], options["level"])
    topic, first = config.topic("events"), int(options["from_offset"])
    partitions = {
        number: read_partition(config, topic, number, first)
        for number in numbers or range(topic_ids(config).partitions)
    }
    result = verify(partitions, Codec(), AuditOptions(level=level, progress=progress))
    line.clear()
    if output == "table":
        for text in lines(result):
            click.echo(text)
    else:
        click.echo(dumps(as_json(result), indent=2 if output == "json" else None))
    if not result.ok:
        raise exits.Exit(exits.FAILED)
