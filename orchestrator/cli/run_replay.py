"""`workflow replay`: exported histories against the code at hand, without Kafka; what CI runs before a deploy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.store.blobs import DirectoryBlobs
from orchestrator.testing.replayer import Replayer

from . import exits
from .output import output_option, print_rows
from .session import settings_of

SUFFIXES = (".jsonl", ".json")


@click.command("replay")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@output_option
@click.pass_context
def replay_command(context: click.Context, /, paths: Sequence[Path], output: str) -> None:
    """Replay exported histories (files, or directories of .jsonl and .json) with the code of --app, without effects.

    Exit code 1 if the code no longer does what one of them says: a deploy would park such a run.
    """
    from orchestrator.worker.loading import load_app

    settings = settings_of(context)
    replayer = Replayer(load_app(settings.required_app()), DirectoryBlobs(settings.blobs))
    rows = [_row(replayer, file) for file in _files(paths)]
    print_rows(rows, ["file", "outcome", "turns", "what"], output)
    if any(row["outcome"] != "repeated" for row in rows):
        raise exits.Exit(exits.FAILED)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        found = sorted(_within(path)) if path.is_dir() else [path]
        if not found:
            raise ConfigurationError(f"{path} holds no histories: export them with `workflow history ID -o jsonl`")
        yield from found


def _within(directory: Path) -> Iterator[Path]:
    """What may be a history; in hidden directories, a state's above all, none is."""
    for path in directory.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.suffix in SUFFIXES and not hidden:
            yield path


def _row(replayer: Replayer, file: Path) -> dict[str, Any]:
    try:
        turns = replayer.replay(file)
    except OrchestratorError as error:
        return {"file": str(file), "outcome": type(error).__name__, "turns": None, "what": str(error)}
    return {"file": str(file), "outcome": "repeated", "turns": turns, "what": ""}
