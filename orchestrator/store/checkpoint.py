"""Checkpoints: copies of a partition's state directory, so that a restore folds only what came after.

A file is kept once, under its SHA-256, however many checkpoints have it: RocksDB's tables never change, so that a
checkpoint uploads what is new. The manifest comes last. Whatever dies on the way, the checkpoints of before are whole;
what was uploaded for one that never came is used by the next, or removed.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import CheckpointRefused, OrchestratorError, StoreError
from ..failpoints import failpoint
from .files import sync
from .manifest import (
    FileEntry,
    Head,
    Manifest,
    decode,
    encode,
    files_of,
    manifests_of,
    partition_of_manifest,
    stored_as,
)
from .places import Place, is_unfinished

CHUNK = 1024 * 1024
MANIFEST_BYTES = 64 * 1024 * 1024
SPARED_S = 3_600.0
"""Files that no checkpoint names are left for so long: another process may be about to name them."""
TABLE = ".sst"
"""How the names of RocksDB's tables end: such a file never changes."""


Inode = tuple[int, int, int]
"""A file's number, size and time: of a table, the same means the same bytes."""


class Abandoned(OrchestratorError):
    """The process ends: a checkpoint that was under way is not finished."""


class Written(NamedTuple):
    """What a checkpoint took: its manifest's name, its files, and how many of them and bytes had to be uploaded."""

    name: str
    files: int
    uploaded: int
    uploaded_bytes: int


class Found(NamedTuple):
    """A manifest that is there: what it says, or why it is refused."""

    name: str
    manifest: Manifest | None
    problem: str


class Checkpoints:
    """One application's checkpoints. Safe to use from several threads."""

    def __init__(self, place: Place, keep: int = 3, spared_s: float = SPARED_S) -> None:
        """`keep`: how many checkpoints of a partition stay when another was written."""
        self.place = place
        self._keep = keep
        self._spared_s = spared_s
        self._tables: dict[int, dict[Inode, str]] = {}
        """By partition, the hashes of the tables of its last checkpoint."""

    # -- taking ------------------------------------------------------------------------------------------------------

    def write(self, head: Head, snapshot: Path, stopped: Callable[[], bool] = lambda: False) -> Written:
        """Keep the state directory's copy `snapshot`, then remove what is older than the checkpoints to be kept.

        Raises CheckpointsUnavailable; StoreError when the copy cannot be read; Abandoned once `stopped` says so.
        """
        partition = head.identity.partition
        present = {name: stored.size for name, stored in self.place.names(files_of(partition)).items()}
        entries: list[FileEntry] = []
        uploaded = uploaded_bytes = 0
        for path, entry in self._entries(partition, snapshot):
            if stopped():
                raise Abandoned(f"{self.place.where}: the checkpoint at offset {head.offset} was not finished")
            entries.append(entry)
            name = stored_as(partition, entry.sha256)
            if present.get(name) != entry.size:
                with _on_disk(path):
                    file = path.open("rb")
                with file:
                    self.place.put(name, file)
                present[name] = entry.size
                uploaded, uploaded_bytes = uploaded + 1, uploaded_bytes + entry.size
        name, data = encode(Manifest(head, tuple(entries)))
        self.place.put(name, io.BytesIO(data))
        self.prune(partition)
        return Written(name, len(entries), uploaded, uploaded_bytes)

    def _entries(self, partition: int, snapshot: Path) -> Iterator[tuple[Path, FileEntry]]:
        """Every file with its name, size and hash; a table of the last checkpoint is not read again."""
        before, now = self._tables.get(partition, {}), {}
        for path in sorted(snapshot.iterdir()):
            with _on_disk(path):
                state = path.stat()
                inode = (state.st_ino, state.st_size, state.st_mtime_ns)
                sha256 = before.get(inode) or _sha256(path)
            if path.suffix == TABLE:
                now[inode] = sha256
            yield path, FileEntry(path.name, state.st_size, sha256)
        self._tables[partition] = now

    def prune(self, partition: int) -> int:
        """Remove checkpoints beyond those to be kept, then files that none of the rest names; how many went.

        Raises CheckpointsUnavailable.
        """
        # Files first: one that is written after this listing is not among those to be removed.
        stored = self.place.names(str(partition))
        found = self.found(partition)
        kept = [one for one in found if one.manifest is not None][: self._keep]
        oldest = min((one.name for one in kept), default="")
        for one in found:
            if one.name < oldest:
                self.place.remove(one.name)
        # A refused manifest that is not older may be a newer release's: what it needs is not known, nothing goes.
        if any(one.manifest is None and one.name >= oldest for one in found):
            return 0
        wanted = {stored_as(partition, entry.sha256) for one in kept if one.manifest for entry in one.manifest.files}
        wanted |= {one.name for one in found}
        unused = [
            name
            for name, file in stored.items()
            if name not in wanted
            and file.age_s >= self._spared_s
            and (_is_file(partition, name) or is_unfinished(name))
        ]
        for name in unused:
            self.place.remove(name)
        return len(unused)

    # -- looking -----------------------------------------------------------------------------------------------------

    def partitions(self) -> list[int]:
        """Partitions that have a manifest. Raises CheckpointsUnavailable."""
        return sorted({partition_of_manifest(name) for name in self.place.names("")} - {-1})

    def found(self, partition: int) -> list[Found]:
        """A partition's checkpoints, newest first; refused ones among them. Raises CheckpointsUnavailable."""
        names = self.place.names(manifests_of(partition))
        return [self._read(name) for name in sorted(names, reverse=True) if partition_of_manifest(name) >= 0]

    def _read(self, name: str) -> Found:
        try:
            with self.place.open(name) as file:
                return Found(name, decode(name, file.read(MANIFEST_BYTES)), "")
        except CheckpointRefused as error:
            return Found(name, None, str(error))

    def verify(self, manifest: Manifest, whole: set[str]) -> None:
        """Read every file that is not among `whole`, and add it. Raises CheckpointRefused, CheckpointsUnavailable."""
        for entry in manifest.files:
            if entry.sha256 not in whole:
                for _ in self._checked(manifest, entry):
                    pass
                whole.add(entry.sha256)

    # -- restoring ---------------------------------------------------------------------------------------------------

    def fetch(self, manifest: Manifest, staging: Path, target: Path) -> None:
        """Make `target` the state directory that was copied; every hash was compared when it is there.

        What lies in `staging` from a restore that was cut off is used: nothing is fetched twice. Both directories must
        be on one file system. Raises CheckpointRefused, CheckpointsUnavailable; StoreError for a disk that is full.
        """
        with _on_disk(staging):
            staging.mkdir(parents=True, exist_ok=True)
        for entry in manifest.files:
            self._stage(manifest, entry, staging / entry.sha256)
        with _on_disk(target):
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            for entry in manifest.files:
                make = os.link if entry.name.endswith(TABLE) else shutil.copyfile
                make(staging / entry.sha256, target / entry.name)
                _sync_file(target / entry.name)
            sync(target)

    def _stage(self, manifest: Manifest, entry: FileEntry, path: Path) -> None:
        failpoint("K16")
        with _on_disk(path):
            if path.exists() and _sha256(path) == entry.sha256:
                return
        # A part that was cut off has no name that anybody trusts.
        part = path.with_suffix(".part")
        with _on_disk(part):
            file = part.open("wb")
        with file:
            for chunk in self._checked(manifest, entry):
                with _on_disk(part):
                    file.write(chunk)
        with _on_disk(part):
            part.replace(path)

    def _checked(self, manifest: Manifest, entry: FileEntry) -> Iterator[bytes]:
        """A file's bytes; the last of them only if all were right. Raises CheckpointRefused otherwise."""
        name = stored_as(manifest.head.identity.partition, entry.sha256)
        digest, size = hashlib.sha256(), 0
        with self.place.open(name) as file:
            for chunk in _chunks(file):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
        if (digest.hexdigest(), size) != (entry.sha256, entry.size):
            raise CheckpointRefused(
                f"{self.place.where}/{name}: {size:,} bytes that are not those of {entry.name} ({entry.size:,} bytes):"
                " it was changed. Remove that file: the next checkpoint uploads it anew"
            )


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _is_file(partition: int, name: str) -> bool:
    return name.startswith(f"{files_of(partition)}/")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path} cannot be used: {error}") from error
