"""`orchestrator keys`: what signs commands, and whose signatures engines believe."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.codec.signing import generate, listed, public_path
from orchestrator.errors import ConfigurationError

from .output import output_option, print_one, print_rows
from .session import settings_of


@click.group()
def keys() -> None:
    """Keys that sign commands, so that it is known who sent them."""


@keys.command("create")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@output_option
def create_command(path: Path, output: str) -> None:
    """Make an Ed25519 key: PATH (mode 0600) for whoever sends commands, PATH.pub for the engines' key ring.

    The private half is never shown, and no file is ever replaced.
    """
    key_id = generate(path, signers=False)
    print_one({"key_id": key_id, "for_senders": str(path), "for_key_ring": str(public_path(path))}, output)


@keys.command("list")
@click.argument("ring", required=False, type=click.Path(exists=True, path_type=Path))
@output_option
@click.pass_context
def list_command(context: click.Context, /, ring: Path | None, output: str) -> None:
    """List the keys of a ring, a directory of *.pub or one file, by id  [ORCHESTRATOR_KEY_RING]."""
    place = ring or settings_of(context).key_ring
    if place is None:
        raise ConfigurationError("no key ring named: give its directory, or set ORCHESTRATOR_KEY_RING")
    rows = [{"key_id": key_id, "file": str(path)} for key_id, path in listed([place])]
    print_rows(rows, ["key_id", "file"], output)
