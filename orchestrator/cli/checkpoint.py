"""`orchestrator checkpoint`: the copies of state that a partition is restored from when its directory is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from orchestrator.config import Settings
from orchestrator.errors import CheckpointRefused, ConfigurationError
from orchestrator.store.checkpoint import Checkpoints, Found
from orchestrator.store.places import place_of

from . import exits
from .output import Row, output_option, print_rows, say
from .session import app_name, settings_of

COLUMNS = ("partition", "offset", "batch", "taken_at_ms", "files", "bytes", "says")
WHOLE = "whole"


@click.group()
def checkpoint() -> None:
    """Look at checkpoints of partitions' states."""


_partition_option = click.option("--partition", "numbers", type=click.IntRange(min=0), multiple=True,
                                 help="Only these; repeat for more. Else every one that has a checkpoint.")  # fmt: skip


@checkpoint.command("list")
@_partition_option
@output_option
@click.pass_context
def list_(context: click.Context, /, numbers: tuple[int, ...], output: str) -> None:
    """List checkpoints by partition, newest first. Their files are not read: see `verify`.

    Where they are: ORCHESTRATOR_CHECKPOINT_URL, a directory, file:///path or s3://bucket/prefix.
    """
    kept = _checkpoints(settings_of(context))
    _shown(kept, [_row(number, one, one.problem) for number, one in _all(kept, numbers)], output)


@checkpoint.command("verify")
@_partition_option
@output_option
@click.pass_context
def verify_command(context: click.Context, /, numbers: tuple[int, ...], output: str) -> None:
    """Read every file of every checkpoint and compare its SHA-256; exit code 1 if one is missing, torn or altered."""
    kept = _checkpoints(settings_of(context))
    rows, whole = [], set[str]()
    for number, one in _all(kept, numbers):
        problem = one.problem
        if one.manifest is not None:
            try:
                kept.verify(one.manifest, whole)
            except CheckpointRefused as error:
                problem = str(error)
        rows.append({**_row(number, one, problem or WHOLE), "ok": not problem})
    _shown(kept, rows, output)
    if not all(row["ok"] for row in rows):
        raise exits.Exit(exits.FAILED)


def _checkpoints(settings: Settings) -> Checkpoints:
    if not settings.checkpoint_url:
        raise ConfigurationError(
            "no checkpoints are kept: set ORCHESTRATOR_CHECKPOINT_URL, as the engines have it, to a directory or"
            " s3://bucket/prefix"
        )
    return Checkpoints(place_of(settings.checkpoint_url, app_name(settings), settings.s3_endpoint))


def _all(kept: Checkpoints, numbers: tuple[int, ...]) -> Iterator[tuple[int, Found]]:
    for number in numbers or kept.partitions():
        for one in kept.found(number):
            yield number, one


def _row(number: int, one: Found, says: str) -> dict[str, Any]:
    row: dict[str, Any] = {"partition": number, "manifest": Path(one.name).name, "says": says}
    if one.manifest is not None:
        head = one.manifest.head
        row |= {
            "offset": head.offset,
            "batch": f"{head.batch.claim_no}/{head.batch.batch_no}",
            "taken_at_ms": head.taken_at_ms,
            "topic_id": head.identity.topic_id,
            "footer_hash": head.footer_hash.hex(),
            "files": len(one.manifest.files),
            "bytes": one.manifest.size,
        }
    return row


def _shown(kept: Checkpoints, rows: list[Row] | list[dict[str, Any]], output: str) -> None:
    print_rows(rows, COLUMNS, output)
    if not rows:
        say(f"no checkpoint in {kept.place.where}")
