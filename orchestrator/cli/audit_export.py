"""`audit export`: a signed bundle that verifies offline, and the report of one that was verified."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from orchestrator.codec.registry import codec_of
from orchestrator.codec.signing import PublicKeys, Signer
from orchestrator.config import Settings
from orchestrator.errors import ConfigurationError, WorkflowNotFound
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import TopicIds
from orchestrator.log.reader import read_partition, topic_exists
from orchestrator.log.topics import topic_ids
from orchestrator.projections.audit_report import as_json, lines
from orchestrator.projections.bundle import BundleWriter
from orchestrator.projections.bundle_export import Exporter, Range, Runs
from orchestrator.projections.bundle_verify import BundleAudit, verify_bundle
from orchestrator.store.blobs import DirectoryBlobs

from . import exits
from .audit_replay import moment_of
from .output import dumps, output_option, print_one, time_text
from .session import settings_of
from .topics import existing, log_config


@click.command("export")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--workflow", "workflow_id", default="", metavar="ID", help="The runs of one workflow.")
@click.option("--run", "run_id", default="", metavar="RUN", help="One run of it.")
@click.option("--all", "everything", is_flag=True, help="Whole batches of the application.")
@click.option("--partition", "numbers", type=click.IntRange(min=0), multiple=True, help="Only these; repeat for more.")
@click.option("--from", "since", default="", metavar="MOMENT", help="With --all: from this offset or time on.")
@click.option("--until", default="", metavar="MOMENT", help="With --all: up to this offset or time.")
@click.option("--blobs/--no-blobs", default=True, show_default=True,
              help="With the large values that its events name, from ORCHESTRATOR_BLOB_DIR.")  # fmt: skip
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH",
              help="The private key to sign with (`audit keygen`)  [ORCHESTRATOR_ANCHOR_KEY].")  # fmt: skip
@output_option
@click.pass_context
def export_command(context: click.Context, /, path: Path, output: str, key: Path | None, **options: Any) -> None:
    """Write a signed bundle to PATH: runs of a workflow, or whole batches of a range of offsets or time.

    It is a ZIP of raw records, signed heads, schemas and large values, verified by `audit verify --bundle PATH`
    without Kafka, and without this package as its FORMAT.md says. Of other runs a workflow's bundle has hashes only.
    """
    workflow_id, run_id = options["workflow_id"], options["run_id"]
    if bool(workflow_id) == bool(options["everything"]):
        raise click.UsageError("name the runs of a workflow with --workflow ID (and --run), or batches with --all")
    if run_id and not workflow_id:
        raise click.UsageError("--run needs its --workflow")
    if workflow_id and (options["since"] or options["until"]):
        raise click.UsageError("--from and --until go with --all: a run is exported whole")
    settings = settings_of(context)
    place = key or settings.anchor_key
    if place is None:
        raise ConfigurationError(
            "a bundle is signed: name a key with --key, or make one with `orchestrator audit keygen`"
        )
    signer = Signer.load(place)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        said = _write(settings, partial, signer, {**options, "chosen": _range(options)})
        partial.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    print_one({"bundle": str(path), **said}, output)


def _range(options: dict[str, Any]) -> Range:
    since, until = moment_of(options["since"], "--from"), moment_of(options["until"])
    if max(since.offset, until.offset) >= 0 and len(options["numbers"]) != 1:
        raise click.UsageError("an offset is of one partition: name it with --partition, or give times")
    return Range(since.offset, until.offset, since.time_ms, until.time_ms)


def _write(settings: Settings, path: Path, signer: Signer, options: dict[str, Any]) -> dict[str, Any]:
    config = log_config(settings)
    existing(config, options["numbers"])
    ids, codec = topic_ids(config, auditing=True), codec_of(settings)
    chosen: Runs | Range = options["chosen"]
    if options["workflow_id"]:
        chosen = Runs(options["workflow_id"], options["run_id"])
    with path.open("wb") as file, BundleWriter(file) as writer:
        exporter = Exporter(writer, codec)
        for number in _numbers(options["numbers"], chosen, ids):
            slices = read_partition(config, config.topic("events"), number)
            if isinstance(chosen, Range):
                exporter.batches(number, slices, chosen)
            elif exporter.runs(number, slices, chosen).records and not options["run_id"]:
                break
        made = [one for one in exporter.partitions.values() if one.records]
        if not made and isinstance(chosen, Runs):
            raise WorkflowNotFound(
                f"{'/'.join(filter(None, chosen))} is not on {config.topic('events')}", workflow_id=chosen.workflow_id
            )
        if not made:
            raise ConfigurationError(f"no whole batch of {config.topic('events')} lies in that range")
        anchors = exporter.anchors(_anchors(settings, config))
        blobs = exporter.blobs(DirectoryBlobs(settings.blobs)) if options["blobs"] else 0
        manifest = {**_manifest(config, ids, chosen), **exporter.heads(), **exporter.schemas()}
        manifest |= {"blobs": "included" if options["blobs"] else "left out", "absent_blobs": exporter.absent}
        signature = writer.seal(manifest, signer, int(time.time() * 1000))
        file.flush()
        os.fsync(file.fileno())
    return {
        "partitions": [one.partition for one in made],
        "records": sum(one.records for one in made),
        "hashes": sum(one.hashes for one in made),
        "signed_heads": anchors,
        "blobs": blobs,
        "absent_blobs": len(exporter.absent),
        "files": signature.files,
        "key_id": signature.key_id,
        "made_at_ms": signature.at_ms,
    }


def _numbers(named: tuple[int, ...], chosen: Runs | Range, ids: TopicIds) -> Iterable[int]:
    """Partitions in the order in which they are looked at: a workflow's home first, for it is there nearly always."""
    if named or isinstance(chosen, Range):
        return sorted(named) or range(ids.partitions)
    home = partition_of(chosen.workflow_id.encode(), ids.partitions)
    return [home, *(number for number in range(ids.partitions) if number != home)]


def _manifest(config: LogConfig, ids: TopicIds, chosen: Runs | Range) -> dict[str, Any]:
    kind = "runs" if isinstance(chosen, Runs) else "batches"
    return {
        "app": config.app,
        "cluster_id": ids.cluster_id,
        "commands_id": ids.commands,
        "events_id": ids.events,
        "scope": {"kind": kind, **chosen._asdict()},
    }


def _anchors(settings: Settings, config: LogConfig) -> Iterator[bytes]:
    topic = config.topic("anchors")
    if topic_exists(config, topic):
        for wires in read_partition(config, topic, 0):
            yield from (wire.value for wire in wires)
    if settings.anchor_dir is not None:
        for place in sorted((settings.anchor_dir / config.app).glob("*/*.anchor")):
            yield place.read_bytes()


def verify_file(settings: Settings, path: Path, named: tuple[Path, ...], output: str) -> None:
    """Verify a bundle, print what it proves. Raises BundleRefused, ConfigurationError; Exit if something is found."""
    places = named or ((settings.anchor_public,) if settings.anchor_public else ())
    if not places:
        raise ConfigurationError("whose bundle is it? Name the public key of whoever signed it with --anchor-key")
    found = verify_bundle(path, PublicKeys.load(places))
    if output == "table":
        _print(path, found)
    else:
        said = {
            **as_json(found.audit),
            "signed_by": found.signature.key_id,
            "signed_at_ms": found.signature.at_ms,
            "manifest": {name: value for name, value in found.manifest.items() if name != "files"},
            "runs": found.runs,
        }
        click.echo(dumps(said, indent=2 if output == "json" else None))
    if not found.ok:
        raise exits.Exit(exits.FAILED)


def _print(path: Path, found: BundleAudit) -> None:
    manifest = found.manifest
    click.echo(
        f"{path}: {found.signature.files} files of {manifest['app']}, unchanged, signed by key"
        f" {found.signature.key_id} at {time_text(found.signature.at_ms)}"
    )
    for run in found.runs:
        click.echo(f"{run['workflow_id']}/{run['run_id']}: {run['events']} events, {run['ends']}")
    for text in lines(found.audit):
        click.echo(text)
