"""`orchestrator partition`: what a person decides about a partition that stands still."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import click

from orchestrator.codec.registry import codec_of
from orchestrator.core.values import Actor
from orchestrator.engine.repair import Acceptance, Damage, Repairer
from orchestrator.engine.soundness import HangingTransaction
from orchestrator.log.config import LogConfig
from orchestrator.log.hanging import abort_lanes, outlasting
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.store.partition_store import PartitionStore

from . import exits
from .output import dumps, output_option, say
from .session import person, settings_of
from .topics import existing, log_config

NAMES_SHOWN = 10


@click.group()
def partition() -> None:
    """Repair a parked partition."""


@partition.command("repair")
@click.argument("number", type=click.IntRange(min=0))
@click.option("--yes", is_flag=True, help="Accept what was found; without it, it is only said.")
@click.option("--abort-hung", is_flag=True, help="First end transactions that the partition's lanes left open: void.")
@click.option("--skip-input", is_flag=True, help="Record commands that would be read again as lost instead.")
@click.option("--reason", default="", help="Why; recorded in the partition's log.")
@output_option
@click.pass_context
def repair_command(context: click.Context, /, number: int, yes: bool, output: str, **options: Any) -> None:
    """Look at partition NUMBER's log, state and input, with its state directory here and its engine stopped.

    What parks a partition: a gap in the log or a record that cannot be read, a log that was cut, written again or
    replaced, commands that were deleted before they were read. `--yes` accepts the log as it is: what lies behind a gap
    is set aside for every reader, a state that reflects something else is kept beside and rebuilt, the runs concerned
    are parked, and commands are read again from the last good footer on. All of it is recorded. Exit code 1 if
    something was found and not accepted.

    A transaction that stays open hides what follows: it is named, and nothing else is done. `--abort-hung` ends those
    of the partition's own lanes, whose end was lost with a broker.
    """
    settings = settings_of(context)
    config = log_config(settings)
    existing(config, [number])
    _uncover(config, number, options["abort_hung"])
    codec = codec_of(settings)
    directory = settings.state_dir / config.app / str(number)
    was_there = directory.is_dir()
    fresh = directory.with_name(f"{number}.rebuilt")
    shutil.rmtree(fresh, ignore_errors=True)
    opened: list[PartitionStore] = []

    def opening(path: Path) -> PartitionStore:
        opened.append(PartitionStore(path, codec))
        return opened[-1]

    log = KafkaLog(config)
    try:
        repairer = Repairer(log, opening(directory), codec, number, lambda: opening(fresh))
        if yes:
            actor = Actor("person", person(), via="cli")
            found = repairer.accept(Acceptance(actor, options["reason"], options["skip_input"]))
        else:
            found = repairer.examine()
    finally:
        for store in opened:
            store.close()
        log.close()
        if not was_there:
            # Folded to look at the log: engines have theirs elsewhere.
            shutil.rmtree(directory, ignore_errors=True)
    kept = _keep(directory, fresh, was_there and yes and found.state_dropped)
    _show(number, found, yes, kept, output)
    if not found.is_none and not yes:
        raise exits.Exit(exits.FAILED)


def _uncover(config: LogConfig, number: int, abort: bool) -> None:
    """Nothing may hide the log's end from who looks at it. Raises HangingTransaction, which says what to do."""
    found = outlasting(config, number)
    if found is None:
        return
    if not abort:
        raise HangingTransaction(found.sentence())
    if left := abort_lanes(config, found):
        lanes = ", ".join(config.lane_names(number))
        raise HangingTransaction(
            f"{left[0].what()}, and none of {lanes} opened it: an engine with more lanes (ORCHESTRATOR_LANES), or a"
            f" stranger: {left[0].command()}"
        )
    say(f"partition {number}: what hid offsets {found.first} to {found.end - 1} was aborted, and is void")


def _keep(directory: Path, fresh: Path, accepted: bool) -> str:
    """The rebuilt state takes the place of the one that cannot go on, which is kept: it may be the better witness."""
    if not accepted:
        shutil.rmtree(fresh, ignore_errors=True)
        return ""
    kept = directory.with_name(f"{directory.name}.before-{time.strftime('%Y%m%dT%H%M%S')}")
    directory.rename(kept)
    fresh.rename(directory)
    return str(kept)


def _show(number: int, damage: Damage, accepted: bool, kept: str, output: str) -> None:
    if output != "table":
        runs = {name: ["/".join(key) for key in getattr(damage, name)] for name in ("parked", "gone")}
        lost = damage.lost._asdict() if damage.lost else None
        row = {"partition": number, **damage._asdict(), **runs, "lost": lost, "accepted": accepted, "kept": kept}
        click.echo(dumps(row))
        return
    for line in _lines(damage):
        click.echo(f"partition {number}: {line}")
    if kept:
        click.echo(f"partition {number}: the state of before is kept in {kept}")
    if damage.is_none:
        click.echo(f"partition {number}: the log is whole, no command is missing")
    elif accepted:
        click.echo(f"partition {number}: accepted and recorded; start the engine")
    else:
        click.echo(f"partition {number}: to accept it: orchestrator partition repair {number} --yes --reason TEXT")


def _lines(damage: Damage) -> list[str]:
    found = [damage.wrong] if damage.wrong else []
    if damage.wrong and damage.from_offset < damage.to_offset:
        found.append(f"records from offset {damage.from_offset} to {damage.to_offset - 1} are set aside")
    if damage.state_dropped:
        found.append("the state directory reflects something else: it is rebuilt from the log")
    for what, keys in (("open runs are parked", damage.parked), ("runs are not on the log", damage.gone)):
        if keys:
            more = ", …" if len(keys) > NAMES_SHOWN else ""
            found.append(f"{len(keys)} {what}: {', '.join('/'.join(key) for key in keys[:NAMES_SHOWN])}{more}")
    if damage.lost is not None:
        found.append(f"commands {damage.lost.start} to {damage.lost.end - 1} were deleted before they were read")
    if damage.wrong and damage.reads_from < damage.reads_to:
        found.append(f"commands {damage.reads_from} to {damage.reads_to - 1} are read again, unless --skip-input")
    return found
