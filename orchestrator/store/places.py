"""Where checkpoints lie: files by name in a directory, or in a bucket. A name leads to all of a file or to none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from ..errors import CheckpointRefused, CheckpointsUnavailable, ConfigurationError
from ..failpoints import failpoint
from .files import NEW, copy_file, make_directory


class Stored(NamedTuple):
    """A file that is there: its bytes, and how long ago it was written, by the place's clock."""

    size: int
    age_s: float


class Place(Protocol):
    """Files by names of parts between slashes. Safe to use from several threads."""

    where: str
    """The place, for messages."""

    def names(self, folder: str) -> dict[str, Stored]:
        """Every file below a folder ("": below all), by its whole name. Raises CheckpointsUnavailable."""
        ...

    def put(self, name: str, file: BinaryIO) -> None:
        """Keep what `file` holds, all of it or nothing; one of that name is replaced. Raises CheckpointsUnavailable."""
        ...

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Read a file. Raises CheckpointRefused when it is missing, CheckpointsUnavailable."""
        ...

    def remove(self, name: str) -> None:
        """Forget a file; one that is gone is no error. Raises CheckpointsUnavailable."""
        ...


def place_of(url: str, folder: str, endpoint: str = "") -> Place:
    """The folder's place below a directory's path, `file://` or `s3://bucket/prefix`. Raises ConfigurationError."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        # boto3 is an extra: only who names a bucket needs it.
        from .s3 import bucket_place

        return bucket_place(parts.netloc, "/".join(filter(None, (parts.path.strip("/"), folder))), endpoint)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return _directory(url, Path(unquote(parts.path)), folder)
    if parts.scheme or not url:
        raise ConfigurationError(
            f"ORCHESTRATOR_CHECKPOINT_URL={url!r}: must be a directory, file:///path or s3://bucket/prefix"
        )
    return _directory(url, Path(url).expanduser(), folder)


def _directory(url: str, path: Path, folder: str) -> DirectoryPlace:
    if path.exists() and not path.is_dir():
        raise ConfigurationError(f"ORCHESTRATOR_CHECKPOINT_URL={url!r}: is a file, and must be a directory")
    return DirectoryPlace(path / folder)


class DirectoryPlace:
    """Files below one directory, which is made when first written to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.where = str(directory)

    def names(self, folder: str) -> dict[str, Stored]:
        """See Place. Files that are being written, or were when their writer died, are among them."""
        now = time.time()
        found = {}
        with self._explained("listed"):
            for path in (self.directory / folder).rglob("*"):
                # One that goes away meanwhile was not there.
                with contextlib.suppress(FileNotFoundError):
                    state = path.stat()
                    if path.is_file():
                        found[str(path.relative_to(self.directory))] = Stored(state.st_size, now - state.st_mtime)
        return found

    def put(self, name: str, file: BinaryIO) -> None:
        """See Place."""
        path = self.directory / name
        with self._explained("written"):
            make_directory(path.parent)
            copy_file(path, file, lambda: failpoint("K15"))

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """See Place."""
        with self._explained("read"):
            try:
                file = (self.directory / name).open("rb")
            except FileNotFoundError as error:
                raise CheckpointRefused(f"{self.where}/{name} is missing") from error
            with file:
                yield file

    def remove(self, name: str) -> None:
        """See Place."""
        with self._explained("cleared"):
            (self.directory / name).unlink(missing_ok=True)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointsUnavailable(f"checkpoints in {self.where} cannot be {what}: {error}") from error


def is_unfinished(name: str) -> bool:
    """Whether a file is one that was being written: no checkpoint names it."""
    return name.rsplit("/", 1)[-1].startswith(NEW)
