"""`orchestrator blobs`: large values beside the log, and which of them no event names any more."""

from __future__ import annotations

import time

import click

from orchestrator.codec.records import Codec
from orchestrator.codec.registry import codec_of
from orchestrator.config import Settings
from orchestrator.core.large import named
from orchestrator.errors import BlobsUnavailable, ConfigurationError, UndecodableRecord
from orchestrator.log.reader import read_partition
from orchestrator.log.topics import topic_ids
from orchestrator.store.blob_sweep import owners, sweep

from .output import output_option, print_one
from .session import app_name, settings_of
from .topics import log_config

DAY_S = 86_400


@click.group()
def blobs() -> None:
    """Look after large values."""


@blobs.command("sweep")
@click.option("--also", "others", multiple=True, metavar="NAME",
              help="Another application whose blobs are in this directory; repeat for more.")  # fmt: skip
@click.option("--older", "days", type=click.IntRange(min=1), default=15, show_default=True, metavar="DAYS",
              help="Spare what was put since: longer than commands are kept.")  # fmt: skip
@click.option("--delete", is_flag=True, help="Delete them; else they are only counted.")
@output_option
@click.pass_context
def sweep_command(context: click.Context, /, others: tuple[str, ...], days: int, delete: bool, output: str) -> None:
    """Find, or delete, blobs that no event names: what was never sent, was refused, or belonged to a void batch.

    Reads the whole events topic. A record that cannot be read ends it before anything is deleted.
    """
    settings = settings_of(context)
    apps = {app_name(settings), *others}
    directory = settings.blobs
    if unread := owners(directory) - apps:
        raise ConfigurationError(
            f"{directory} has blobs of {', '.join(sorted(unread))} too, whose logs name them: add"
            f" {' '.join(f'--also {app}' for app in sorted(unread))}"
        )
    before_s = time.time() - days * DAY_S
    names: set[str] = set()
    for app in sorted(apps):
        names |= _named(settings.with_changes(app_name=app), app)
    try:
        found = sweep(directory, names, before_s, delete=False)
        if delete and found.unnamed and not found.named:
            raise ConfigurationError(
                f"of {found.unnamed} blobs in {directory} none is named by {', '.join(sorted(apps))}: is this their"
                " cluster, and their directory? Nothing was deleted"
            )
        found = sweep(directory, names, before_s, delete=True) if delete else found
    except OSError as error:
        raise BlobsUnavailable(f"blobs of {directory} cannot be swept: {error}") from error
    print_one({"directory": str(directory), **found._asdict(), "deleted": delete}, output)


def _named(settings: Settings, app: str) -> set[str]:
    """Names of the blobs that an application's events name."""
    config, codec = log_config(settings), codec_of(settings)
    found: set[str] = set()
    for number in range(topic_ids(config, auditing=True).partitions):
        for wires in read_partition(config, config.topic("events"), number):
            for wire in wires:
                found.update(_of(codec, wire.key, wire.value, f"{app}.events/{number} offset {wire.offset}"))
    return found


def _of(codec: Codec, key: bytes, value: bytes, where: str) -> set[str]:
    try:
        body = codec.decode_event(key, value).event.body
    except UndecodableRecord as error:
        raise UndecodableRecord(f"{where}: {error}: what it names is not known, so nothing was deleted") from error
    return {ref.name for _, ref in named(body)}
