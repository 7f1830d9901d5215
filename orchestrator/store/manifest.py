"""The manifest of a checkpoint: which partition's state, up to which footer, in which files.

It is written last, under a name that ends with its own SHA-256: a checkpoint is there when its manifest is, and what
was torn or changed is known by its name.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, NamedTuple

from ..core.levels import LEVEL
from ..core.values import BatchId
from ..errors import CheckpointRefused

FORMAT = 1
HEX = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"(\d+)/manifests/(\d{10})-(\d{10})-([0-9a-f]{64})\.json")
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class Identity(NamedTuple):
    """Whose state it is: the partition of an application, on the events topic of a cluster."""

    app: str
    partition: int
    cluster_id: str
    topic_id: str


class Head(NamedTuple):
    """Where a checkpoint was taken: at this footer, which was read back, with this level in force.

    `taken_at_ms` is the engine's wall clock.
    """

    identity: Identity
    offset: int
    footer_hash: bytes
    batch: BatchId
    taken_at_ms: int
    level: int


class FileEntry(NamedTuple):
    """A file of the state directory; it lies under its hash."""

    name: str
    size: int
    sha256: str


class Manifest(NamedTuple):
    """A checkpoint."""

    head: Head
    files: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(entry.size for entry in self.files)


def manifests_of(partition: int) -> str:
    """The folder of a partition's manifests."""
    return f"{partition}/manifests"


def files_of(partition: int) -> str:
    """The folder of a partition's files."""
    return f"{partition}/files"


def stored_as(partition: int, sha256: str) -> str:
    """The name of a file."""
    return f"{files_of(partition)}/{sha256}"


def partition_of_manifest(name: str) -> int:
    """The partition of a manifest's name; -1 for the name of anything else. Later ones have names that sort higher.

    What sorts them is their batch, not their offset: after a repair the log may be shorter, its claims are higher.
    """
    found = NAME.fullmatch(name)
    return int(found[1]) if found else -1


def encode(manifest: Manifest) -> tuple[str, bytes]:
    """Name and bytes of a manifest."""
    head = manifest.head
    said = {
        "format": FORMAT,
        "level": head.level,
        **head.identity._asdict(),
        "offset": head.offset,
        "footer_hash": head.footer_hash.hex(),
        "claim_no": head.batch.claim_no,
        "batch_no": head.batch.batch_no,
        "taken_at_ms": head.taken_at_ms,
        "files": [entry._asdict() for entry in manifest.files],
    }
    data = json.dumps(said, indent=1).encode() + b"\n"
    digest = hashlib.sha256(data).hexdigest()
    batch = f"{head.batch.claim_no:010d}-{head.batch.batch_no:010d}"
    return f"{manifests_of(head.identity.partition)}/{batch}-{digest}.json", data


def decode(name: str, data: bytes) -> Manifest:
    """The manifest of these bytes.

    Raises CheckpointRefused when they are torn, altered, of a newer release, or not of the partition that the name
    says.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise CheckpointRefused(f"{name} is no manifest's name")
    digest = hashlib.sha256(data).hexdigest()
    if digest != found[4]:
        raise CheckpointRefused(
            f"manifest {name}: {len(data):,} bytes with SHA-256 {digest}: it is torn, or was changed. Remove it"
        )
    try:
        said = json.loads(data)
        _check_release(name, int(said["format"]), int(said["level"]))
        manifest = _manifest(said)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointRefused(f"manifest {name} is none of ours: {type(error).__name__}: {error}") from error
    if (manifest.head.identity.partition, *manifest.head.batch) != tuple(int(found[n]) for n in (1, 2, 3)):
        raise CheckpointRefused(f"manifest {name} is another partition's or another batch's: it was moved")
    return manifest


def _check_release(name: str, format_: int, level: int) -> None:
    if format_ > FORMAT or level > LEVEL:
        raise CheckpointRefused(
            f"manifest {name}: format {format_}, level {level}; this release reads format {FORMAT}, level {LEVEL}:"
            " upgrade before it is used"
        )


def _manifest(said: dict[str, Any]) -> Manifest:
    identity = Identity(str(said["app"]), int(said["partition"]), str(said["cluster_id"]), str(said["topic_id"]))
    batch = BatchId(int(said["claim_no"]), int(said["batch_no"]))
    head = Head(
        identity,
        int(said["offset"]),
        bytes.fromhex(said["footer_hash"]),
        batch,
        int(said["taken_at_ms"]),
        int(said["level"]),
    )
    return Manifest(head, tuple(_file(one) for one in said["files"]))


def _file(said: dict[str, Any]) -> FileEntry:
    entry = FileEntry(str(said["name"]), int(said["size"]), str(said["sha256"]))
    # Names become paths here: only RocksDB's own forms of them may.
    if not FILE_NAME.fullmatch(entry.name) or not HEX.fullmatch(entry.sha256):
        raise ValueError(f"{entry.name!r:.100} is no file of a state directory")
    return entry
