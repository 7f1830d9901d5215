"""`orchestrator partition`: what a person decides about a partition that stands still."""

from __future__ import annotations

import click

from orchestrator.codec.registry import codec_of
from orchestrator.engine.repair import Lost, accept_cut_log, accept_lost_input, lost_input
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.store.partition_store import PartitionStore

from . import exits
from .output import dumps, output_option
from .session import settings_of
from .topics import log_config


@click.group()
def partition() -> None:
    """Repair a parked partition."""


@partition.command("repair")
@click.argument("number", type=click.IntRange(min=0))
@click.option("--accept-lost-input", "accept", is_flag=True, help="Record the missing commands as lost and go on.")
@click.option("--accept-cut-log", "accept_cut", is_flag=True, help="Go on from where the log ends now.")
@output_option
@click.pass_context
def repair_command(context: click.Context, /, number: int, accept: bool, accept_cut: bool, output: str) -> None:
    """Look at partition NUMBER's input, with its state directory here and its engine stopped.

    Commands that the broker deleted before they were read park a partition. `--accept-lost-input` records that they are
    gone (`InputLost`) and lets the partition go on behind them; without it nothing is changed. Exit code 1 if something
    is lost and was not accepted.

    A log that ends before what a group offset noted parks a partition too. `--accept-cut-log` lets it go on from where
    the log ends now: what was recorded behind that never happened, and steps may run again. A state directory that is
    ahead of the log is the better witness; move it away first.
    """
    settings = settings_of(context)
    config = log_config(settings)
    codec = codec_of(settings)
    log = KafkaLog(config)
    store = PartitionStore(settings.state_dir / config.app / str(number), codec)
    try:
        if accept_cut:
            was = accept_cut_log(log, store, codec, number)
            _show_cut(number, was, output)
            return
        found = accept_lost_input(log, store, codec, number) if accept else lost_input(log, store, codec, number)
    finally:
        store.close()
        log.close()
    _show(number, found, accept, output)
    if found is not None and not accept:
        raise exits.Exit(exits.FAILED)


def _show_cut(number: int, was: str, output: str) -> None:
    if output != "table":
        click.echo(dumps({"partition": number, "was": was, "accepted": bool(was)}))
    elif was:
        click.echo(f"partition {number}: {was} The log is accepted as it is; start the engine")
    else:
        click.echo(f"partition {number}: the log ends where the group offset says")


def _show(number: int, lost: Lost | None, accepted: bool, output: str) -> None:
    if output != "table":
        click.echo(dumps({"partition": number, "lost": lost._asdict() if lost else None, "accepted": accepted}))
    elif lost is None:
        click.echo(f"partition {number}: no command is missing")
    elif accepted:
        click.echo(
            f"partition {number}: commands {lost.start} to {lost.end - 1} are recorded as lost; start the engine"
        )
    else:
        click.echo(
            f"partition {number}: commands {lost.start} to {lost.end - 1} were deleted before they were read."
            f" If they may be lost: orchestrator partition repair {number} --accept-lost-input"
        )
