"""`orchestrator audit`: prove what is on the log."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import click

from orchestrator.codec.records import Codec
from orchestrator.core.apply.fold import Settings
from orchestrator.log.config import LogConfig
from orchestrator.log.reader import group_notes, read_partition
from orchestrator.log.topics import topic_ids
from orchestrator.projections.audit import AuditOptions, Progress, Witness, verify, witness_of
from orchestrator.projections.audit_report import as_json, lines
from orchestrator.store.partition_store import PartitionStore
from orchestrator.store.rows import state_hash

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
@click.option("--state", is_flag=True, help="Compare with the state directories here too; no engine may be running.")
@output_option
@click.pass_context
def verify_command(context: click.Context, /, numbers: tuple[int, ...], output: str, **options: Any) -> None:
    """Verify chains, footers and the laws of histories over the events topic; exit code 1 if something is found."""
    settings = settings_of(context)
    config = log_config(settings)
    line = Line()

    def progress(done: Progress) -> None:
        line.show(f"partition {done.partition}: offset {done.offset}, {done.records} records")

    level = cast(Literal["chain", "full"], options["level"])
    topic, first = config.topic("events"), int(options["from_offset"])
    count = topic_ids(config).partitions
    chosen = numbers or tuple(range(count))
    checks = AuditOptions(
        level=level,
        starts=dict.fromkeys(chosen, first) if first else {},
        witnesses=_witnesses(config, count),
        state_hash=partial(_state_hash, settings.state_dir / config.app) if options["state"] else None,
        settings=Settings(config.app),
        progress=progress,
    )
    result = verify({number: read_partition(config, topic, number, first) for number in chosen}, Codec(), checks)
    line.clear()
    if output == "table":
        for text in lines(result):
            click.echo(text)
    else:
        click.echo(dumps(as_json(result), indent=2 if output == "json" else None))
    if not result.ok:
        raise exits.Exit(exits.FAILED)


def _witnesses(config: LogConfig, partitions: int) -> dict[int, list[Witness]]:
    """Heads that engines noted beside their group offsets: a log that ends before one was cut."""
    notes = group_notes(config, partitions)
    found = {number: witness_of(note, "group offset") for number, note in notes.items()}
    return {number: [witness] for number, witness in found.items() if witness is not None}


def _state_hash(directory: Path, partition: int) -> bytes | None:
    """Hash of a partition's state directory, None when there is none. Raises StoreError while an engine has it open."""
    place = directory / str(partition)
    if not place.is_dir():
        return None
    store = PartitionStore(place, Codec())
    try:
        return state_hash(store)
    finally:
        store.close()
