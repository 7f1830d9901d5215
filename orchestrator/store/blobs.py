"""Blobs: payloads too large for an event, kept beside the log.

A name is the HMAC-SHA256 of the bytes under a key of the store's own, so that the log, which has the names, does not
let its readers check a guess of the contents. A blob is written before the transaction that names it, so that a
committed event never names bytes that were never written; one without an event is garbage and does no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Protocol

from ..core.values import BlobRef
from ..errors import BlobAltered, BlobMissing, BlobsUnavailable
from .files import make_directory, sync, write_file

KEY_BYTES = 32
KEY_FILE = "key"
OWNERS = "owners"
ADVICE = "ORCHESTRATOR_BLOB_DIR has to name the directory that the engines write to, on every machine"


class Blobs(Protocol):
    """Where blobs lie. Safe to use from several threads."""

    def put(self, data: bytes) -> BlobRef:
        """Keep the bytes durably; the same bytes give the same reference. Raises BlobsUnavailable."""
        ...

    def get(self, ref: BlobRef) -> bytes:
        """The bytes of a reference. Raises BlobMissing, BlobAltered, BlobsUnavailable."""
        ...


class MemoryBlobs:
    """Blobs of one process's memory, for logs that live there too."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self._key = secrets.token_bytes(KEY_BYTES)

    def put(self, data: bytes) -> BlobRef:
        """See Blobs."""
        ref = _ref("memory", self._key, data)
        self.kept[ref.name] = data
        return ref

    def get(self, ref: BlobRef) -> bytes:
        """See Blobs."""
        data = self.kept.get(ref.name)
        if data is None:
            raise BlobMissing(f"blob {ref.name} ({ref.size:,} bytes) is not in this process's memory")
        return _checked(ref, self._key, data, "this process's memory")


class DirectoryBlobs:
    """Blobs as files `<first two hex digits>/<name>` below one directory, which is made when first written to.

    The file `key` beside them is made once, by whoever writes first; one that was lost is never made anew, for no blob
    could be read again. A file `owners/<application>` says whose blobs are here: whoever sweeps has to read all of
    their logs.
    """

    def __init__(self, directory: Path, owner: str = "") -> None:
        self.directory = directory
        self._owner = owner
        self._known_key = b""

    def put(self, data: bytes) -> BlobRef:
        """See Blobs. Temporary file, fsync, rename, fsync of the directory: a crash leaves all of it or nothing."""
        try:
            key = self._key(make=True)
            self._sign()
            ref = _ref("directory", key, data)
            path = self._path(ref)
            if not self._is_whole(path, ref, key):
                make_directory(path.parent)
                write_file(path, data)
        except OSError as error:
            raise BlobsUnavailable(
                f"a blob of {len(data):,} bytes cannot be written to {self.directory}: {error}."
                f" Make room or give access; {ADVICE}."
            ) from error
        return ref

    def get(self, ref: BlobRef) -> bytes:
        """See Blobs."""
        path = self._path(ref)
        try:
            data = path.read_bytes()
            key = self._key(make=False)
        except FileNotFoundError as error:
            raise BlobMissing(
                f"blob {ref.name} ({ref.size:,} bytes) is not in {self.directory}. Restore that file; {ADVICE}."
            ) from error
        except OSError as error:
            raise BlobsUnavailable(f"blob {ref.name} cannot be read from {self.directory}: {error}") from error
        return _checked(ref, key, data, str(path))

    def _sign(self) -> None:
        """Say, once, whose blobs are here. Raises OSError."""
        if self._owner:
            make_directory(self.directory / OWNERS)
            write_file(self.directory / OWNERS / self._owner, b"")
            self._owner = ""

    def _key(self, make: bool) -> bytes:
        """The store's key. Raises OSError, BlobsUnavailable."""
        if self._known_key:
            return self._known_key
        path = self.directory / KEY_FILE
        # Asked before the key is looked for: whoever wrote the first blob had made the key before.
        used = not make or any(self.directory.glob("[0-9a-f][0-9a-f]"))
        if not used and not path.exists():
            make_directory(self.directory)
            # Two that begin at once agree on one key: it is whole before it has its name, and a name is given once.
            with contextlib.suppress(FileExistsError):
                write_file(path, secrets.token_bytes(KEY_BYTES), once=True)
        try:
            key = path.read_bytes()
        except FileNotFoundError as error:
            raise BlobsUnavailable(f"{path} is gone: restore it, no blob beside it can be read without") from error
        if len(key) != KEY_BYTES:
            raise BlobsUnavailable(
                f"{path} has {len(key)} bytes, not {KEY_BYTES}: restore it, the blobs' names need it"
            )
        self._known_key = key
        return key

    def _path(self, ref: BlobRef) -> Path:
        # A name comes from the log: only our own form of it may become a path.
        if len(ref.name) != 64 or not set(ref.name) <= set("0123456789abcdef"):
            raise BlobMissing(f"{ref.name!r:.100} is no blob name of this store (64 lower-case hex digits)")
        return self.directory / ref.name[:2] / ref.name

    def _is_whole(self, path: Path, ref: BlobRef, key: bytes) -> bool:
        try:
            _checked(ref, key, path.read_bytes(), str(path))
            # It is as young as its newest use: a sweep spares what may be on its way to the log.
            os.utime(path)
        except (FileNotFoundError, BlobAltered):
            return False
        # Whoever renamed it may have crashed, or not come yet, to this.
        sync(path.parent)
        return True


def _ref(store: str, key: bytes, data: bytes) -> BlobRef:
    return BlobRef(store, _name(key, data), len(data))


def _name(key: bytes, data: bytes) -> str:
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def _checked(ref: BlobRef, key: bytes, data: bytes, where: str) -> bytes:
    if len(data) != ref.size or _name(key, data) != ref.name:
        raise BlobAltered(
            f"{where}: {len(data):,} bytes that are not those of blob {ref.name} ({ref.size:,} bytes)."
            " Put the original file back, from a backup."
        )
    return data
