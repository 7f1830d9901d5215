"""Rows to bytes, and the verbs that every store has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..codec.records import Codec
from ..core.events import Record
from ..core.rows import FAMILIES, HISTORY, NEVER_MS, TIMERS, Key, due_of
from . import keys

Changes = Mapping[tuple[str, Key], Any]
ROW_CACHE_ROWS = 20_000
"""Decoded rows that a store keeps in memory, unless it is told otherwise."""


class Store(Protocol):
    """Rows of one partition: read, scan, write, copy. Only the partition's thread writes."""

    def get(self, family: str, key: Key) -> Any:
        """The row, or None."""

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        """Rows whose key starts with `prefix`, in key order, behind `after`."""

    @property
    def timers_from(self) -> int:
        """A local hint: no timer is due before it, so that a scan for due ones may begin there. 0: nothing is known.

        Scans from the start would walk what RocksDB still holds of every timer that ever was.
        """
        ...

    def write(self, changes: Changes, timers_from: int = 0) -> None:
        """All of them or none; None deletes. Raises StoreError: the partition must go down.

        `timers_from`: afterwards no timer is due before it, but for those that `changes` put.
        """

    def raw(self, family: str) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values as stored, in order: for the state hash."""

    def hint(self, name: str) -> bytes | None:
        """A local note outside the state."""

    def set_hint(self, name: str, value: bytes) -> None:
        """Keep a local note."""

    def set_aside(self, why: str) -> None:
        """Begin anew without a row or hint; what was there is kept elsewhere where there is an elsewhere."""

    def flush(self) -> None:
        """Ask that what is in memory be written to files, and do not wait: `snapshot` has less to do then.

        Raises StoreError.
        """

    def flushed(self) -> bool:
        """Whether the last `flush` is done."""
        ...

    def snapshot(self, target: Path) -> None:
        """A copy as of the last write: makes the directory `target`, of the same file system. Raises StoreError."""

    def replace(self, source: Path) -> None:
        """What `snapshot` made takes the place of these rows and hints; it is used up. Raises StoreError."""

    def keep(self, rows: int) -> None:
        """How many decoded rows may stay in memory."""

    def close(self) -> None:
        """Release the directory."""


def lowest_due(timers_from: int, changes: Changes) -> int:
    """The hint after a write: as it was, or what the write puts before it."""
    due = (due_of(key) for (family, key), row in changes.items() if family == TIMERS and row is not None)
    return min(timers_from, min(due, default=NEVER_MS))


class RowCodec:
    """Row values as bytes; a history row is the event's value exactly as on the wire."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def encode(self, family: str, row: Any) -> bytes:
        """Bytes of a row."""
        if family == HISTORY:
            record: Record = row
            return record.value
        return self._codec.encode(row)

    def decode(self, family: str, key: Key, value: bytes) -> Any:
        """A row from its bytes."""
        if family == HISTORY:
            return self._codec.decode_event(str(key[0]).encode(), value)
        return self._codec.decode(value)


def state_hash(store: Store) -> bytes:
    """SHA-256 over an ordered dump of every family (local hints are not state): equal states have equal hashes (I3)."""
    digest = hashlib.sha256()
    for family in FAMILIES:
        digest.update(family.encode() + b"\x00")
        for key, value in store.raw(family):
            digest.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
    return digest.digest()


__all__ = ["Changes", "RowCodec", "Store", "keys", "lowest_due", "state_hash"]
