"""Deleting blobs that no event names: of commands that were never sent or were refused, of batches that are void."""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

from .blobs import OWNERS

GOING = ".going-"
"""How the names of files begin that are about to be deleted."""


class Swept(NamedTuple):
    """What a sweep found: blobs that are named, that are not but young, and that go, with their bytes."""

    named: int
    young: int
    unnamed: int
    bytes: int


def owners(directory: Path) -> set[str]:
    """The applications that have kept blobs here."""
    place = directory / OWNERS
    return {path.name for path in place.iterdir()} if place.is_dir() else set()


def sweep(directory: Path, named: Set[str], before_s: float, delete: bool) -> Swept:
    """Look at every blob, and delete those that nobody names and nobody has put since `before_s` (of the epoch).

    Raises OSError.
    """
    is_named = young = unnamed = size = 0
    for path in directory.glob("[0-9a-f][0-9a-f]/*"):
        if path.name in named:
            is_named += 1
            continue
        said = path.stat()
        if said.st_mtime >= before_s or (delete and not _deleted(path, before_s)):
            young += 1
            continue
        unnamed += 1
        size += said.st_size
    return Swept(is_named, young, unnamed, size)


def _deleted(path: Path, before_s: float) -> bool:
    """Delete a file unless somebody put its bytes again at this moment: under its name they are then written anew."""
    going = path if path.name.startswith(".") else path.with_name(GOING + path.name)
    os.replace(path, going)
    if going.stat().st_mtime >= before_s:
        os.replace(going, path)
        return False
    going.unlink()
    return True
