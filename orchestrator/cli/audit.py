"""`orchestrator audit`: prove what is on the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import click

from orchestrator.codec.records import Codec
from orchestrator.codec.registry import codec_of
from orchestrator.codec.signing import PublicKeys, generate, public_path
from orchestrator.config import Settings as ProcessSettings
from orchestrator.errors import ConfigurationError, KafkaUnavailable
from orchestrator.log.config import LogConfig
from orchestrator.log.ports import TopicIds
from orchestrator.log.reader import ends, group_notes, read_partition, topic_exists
from orchestrator.log.topics import topic_ids
from orchestrator.projections.anchors import Anchors, Signed, from_directory, from_topic, read_anchors
from orchestrator.projections.audit_job import Job
from orchestrator.projections.audit_jobs import audit_topic
from orchestrator.projections.audit_report import as_json, lines
from orchestrator.projections.audit_witness import Witness, witness_of

from . import exits
from .audit_export import export_command, verify_file
from .audit_progress import Shown
from .audit_replay import replay_command
from .output import dumps, output_option, print_one, say
from .session import settings_of
from .topics import existing, log_config


@click.group()
def audit() -> None:
    """Verify what is on the log."""


audit.add_command(replay_command)
audit.add_command(export_command)


@audit.command("keygen")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@output_option
def keygen_command(path: Path, output: str) -> None:
    """Make an Ed25519 key that engines sign heads with: PATH for them alone, PATH.pub for auditors."""
    key_id = generate(path)
    print_one({"key_id": key_id, "for_engines": str(path), "for_auditors": str(public_path(path))}, output)


@audit.command("verify")
@click.option("--partition", "numbers", type=click.IntRange(min=0), multiple=True, help="Only these; repeat for more.")
@click.option("--from", "from_offset", type=click.IntRange(min=0), default=0, show_default=True, help="First offset.")
@click.option("--level", type=click.Choice(["chain", "full"]), default="full", show_default=True,
              help="Hashes, chains and footers alone, or the laws of histories too.")  # fmt: skip
@click.option("--anchor-key", "keys", multiple=True, type=click.Path(exists=True, path_type=Path), metavar="PATH",
              help="Public key, or a directory of *.pub; repeat for more  [ORCHESTRATOR_ANCHOR_PUBLIC].")  # fmt: skip
@click.option("--anchor-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIRECTORY",
              help="Anchors that engines kept as files too  [ORCHESTRATOR_ANCHOR_DIR].")  # fmt: skip
@click.option("--blobs/--no-blobs", default=True, show_default=True,
              help="Look at the large values that events name, in ORCHESTRATOR_BLOB_DIR.")  # fmt: skip
@click.option("--bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Verify a file of `audit export` instead of the topic, without Kafka.")  # fmt: skip
@click.option("--max-skew", "max_skew_s", type=click.FloatRange(min=0), default=300, show_default=True,
              metavar="SECONDS", help="How far an engine's clock may be from the broker's; 0: not judged.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; without it one, or more for a large topic.")
@click.option("--state", is_flag=True, help="Compare with the state directories here too; no engine may be running.")
@output_option
@click.pass_context
def verify_command(context: click.Context, /, numbers: tuple[int, ...], output: str, **options: Any) -> None:
    """Verify chains, footers and the laws of histories over the events topic; exit code 1 if something is found.

    With the engines' public keys, signed heads say how far the log is complete. With -o jsonl, lines of the kind
    "progress" come before the result, one a second.
    """
    if options["bundle"] is not None:
        verify_file(settings_of(context), options["bundle"], options["keys"], output)
        return
    settings = settings_of(context).with_changes(anchor_dir=options["anchor_dir"])
    config = log_config(settings)
    topic, first = config.topic("events"), int(options["from_offset"])
    ids = topic_ids(config, auditing=True)
    existing(config, numbers)
    chosen = numbers or tuple(range(ids.partitions))
    anchors = _anchors(settings, config, options["keys"], codec_of(settings), ids)
    job = Job(
        settings=settings,
        config=config,
        numbers=chosen,
        level=options["level"],
        first=first,
        witnesses=_witnesses(config, ids.partitions, anchors),
        max_skew_ms=int(options["max_skew_s"] * 1000),
        blobs=settings.blobs if options["blobs"] else None,
        state=settings.state_dir / config.app if options["state"] else None,
    )
    end = ends(config, topic, chosen)
    _check_places(end, first, job.state)
    shown = Shown(end, first, output)
    result = audit_topic(job, options["jobs"] or shown.processes, shown.progress)
    shown.end()
    result.findings += [one for one in anchors.findings if one.partition < 0 or one.partition in chosen]
    result.anchors = anchors.said
    if output == "table":
        for text in lines(result):
            click.echo(text)
    else:
        click.echo(dumps({"kind": "audit", **as_json(result)}, indent=2 if output == "json" else None))
    if not result.ok:
        raise exits.Exit(exits.FAILED)


def _check_places(ends: Mapping[int, int], first: int, state: Path | None) -> None:
    """What is to be looked at must be there. Raises ConfigurationError."""
    for number, end in ends.items():
        if first > end:
            raise ConfigurationError(f"--from {first}: partition {number} ends at offset {end}")
    if state is None:
        return
    absent = [number for number in ends if not (state / str(number)).is_dir()]
    if len(absent) == len(ends):
        raise ConfigurationError(f"--state: {state} has no state directory of these partitions")
    if absent:
        say(f"no state directory in {state} of partitions {', '.join(map(str, absent))}: their state is not compared")


def _witnesses(config: LogConfig, partitions: int, anchors: Anchors) -> dict[int, list[Witness]]:
    """Heads that engines signed, and noted beside their group offsets: a log that ends before one was cut."""
    found = {number: list(witnesses) for number, witnesses in anchors.witnesses.items()}
    try:
        notes = group_notes(config, partitions)
    except KafkaUnavailable as error:
        # An auditor needs no right on the group: what engines sign, and the log itself, are read without it.
        say(f"the log is not compared with what engines noted beside their group's offsets: {error}")
        notes = {}
    for number, note in notes.items():
        witness = witness_of(note, "group offset")
        if witness is not None:
            found.setdefault(number, []).append(witness)
    return found


def _anchors(
    settings: ProcessSettings, config: LogConfig, named: tuple[Path, ...], codec: Codec, ids: TopicIds
) -> Anchors:
    """The anchors topic's and the directory's, believed by the keys named."""
    places = named or ((settings.anchor_public,) if settings.anchor_public else ())
    keys = PublicKeys.load(places)
    topic = config.topic("anchors")
    found: list[Iterable[Signed]] = []
    if topic_exists(config, topic):
        found.append(from_topic(read_partition(config, topic, 0)))
    elif places:
        raise ConfigurationError(f"{topic} does not exist: it holds the signed heads; see `orchestrator topics check`")
    if settings.anchor_dir is not None:
        found.append(from_directory(settings.anchor_dir, config.app))
    return read_anchors(chain.from_iterable(found), keys, codec, ids)
