"""Files that are there whole or not at all, whatever dies meanwhile."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

NEW = ".new-"
"""How the names of files begin that are being written."""


def make_directory(directory: Path) -> None:
    """The directory with its parents, each new one durable. Raises OSError."""
    missing = [directory, *directory.parents]
    new = [one for one in missing if not one.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for one in new:
        sync(one.parent)


def write_file(path: Path, data: bytes, *, once: bool = False) -> None:
    """All of it or nothing. With `once` a file that is there stays. Raises FileExistsError then, else OSError."""
    _write(path, lambda file: file.write(data), lambda: None, once)


def copy_file(path: Path, source: BinaryIO, before: Callable[[], None]) -> None:
    """What `source` has left, all of it or nothing; `before` is called once all of it is on disk. Raises OSError."""
    _write(path, lambda file: shutil.copyfileobj(source, file, 1024 * 1024), before, False)


def sync(directory: Path) -> None:
    """Make a directory's names durable. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, fill: Callable[[BinaryIO], object], before: Callable[[], None], once: bool) -> None:
    handle, name = tempfile.mkstemp(prefix=NEW, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        before()
        if once:
            os.link(name, path)
            os.unlink(name)
        else:
            os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync(path.parent)
