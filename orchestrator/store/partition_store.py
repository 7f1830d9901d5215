"""One RocksDB per partition.

Raw mode, WAL on and not synced (the Kafka log is the write-ahead log), one write batch a commit.
"""

from __future__ import annotations

import gc
import json
import logging
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from ..codec.records import Codec
from ..core.rows import FAMILIES, HISTORY, TIMERS, Key
from ..errors import StoreDamaged, StoreError, UndecodableRecord
from ..failpoints import failpoint
from . import keys
from .rows import ROW_CACHE_ROWS, Changes, RowCodec, lowest_due

log = logging.getLogger(__name__)

HINTS = "hints"
MARK = b"\x00"
"""In every family, before its rows: the number of the write that touched it last."""
MARKS = b"\x00marks"
"""Among the hints: the same numbers, of all families. A file of RocksDB that is lost or cut takes one family back and
not the others, unseen by its checksums: then these do not agree."""
TIMERS_FROM = b"\x00timers"
"""Among the hints: the write that touched the timers last, and the due time before which there was none after it. Where
the numbers differ, a release that does not know this hint has written timers since, and it says nothing."""
FIRST = b"\x01"
"""At or before the first row's key."""
BLOCK_CACHE_BYTES = 128 * 1024 * 1024
WRITE_BUFFER_BYTES = 128 * 1024 * 1024
MISSING = object()
SETTLE_S = 2.0
LOOK_S = 0.002
UNFLUSHED = "rocksdb.num-immutable-mem-table"
"""RocksDB's count of a family's full write buffers that no file has yet."""


@cache
def _shared() -> tuple[Cache, WriteBufferManager]:
    """Block cache and write-buffer budget of the whole process: memory does not grow with the number of partitions."""
    blocks = Cache(BLOCK_CACHE_BYTES)
    return blocks, WriteBufferManager(WRITE_BUFFER_BYTES, False)


def _options() -> Options:
    blocks, buffers = _shared()
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_write_buffer_manager(buffers)
    options.set_write_buffer_size(16 * 1024 * 1024)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    options.set_max_background_jobs(2)
    # A lost or cut write-ahead log must leave every family at the same batch: the log is folded from there.
    options.set_atomic_flush(True)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_paranoid_checks(True)
    table = BlockBasedOptions()
    table.set_block_cache(blocks)
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    return options


class PartitionStore:
    """The rows of one partition on disk. Not thread-safe: the partition's thread owns it."""

    def __init__(self, directory: Path, codec: Codec) -> None:
        """Opens or makes `directory`.

        Raises StoreDamaged when it is corrupt, StoreError when it is locked by another process or not writable.
        """
        self.directory = directory
        self._rows = RowCodec(codec)
        self._cache: OrderedDict[tuple[str, Key], Any] = OrderedDict()
        self._kept = ROW_CACHE_ROWS
        self._write_options = WriteOptions()
        self._db: Rdict | None = None
        self._families: dict[str, Rdict] = {}
        self._marks: dict[str, int] = {}
        self._timers_from = 0
        self._handles: dict[str, Any] = {}
        self._open()

    def _open(self) -> None:
        families = {name: _options() for name in (*FAMILIES, HINTS)}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            db = self._db = Rdict(str(self.directory), _options(), column_families=families)
            self._families = {name: db.get_column_family(name) for name in families}
            self._handles = {name: db.get_column_family_handle(name) for name in families}
        except Exception as error:
            # rocksdict raises plain Exception for everything RocksDB says.
            raise _explained(self.directory, error) from error
        try:
            self._marks = self._compared_marks()
            self._timers_from = self._noted_timers()
        except Exception:
            self.close()
            raise

    def _compared_marks(self) -> dict[str, int]:
        """What each family was last touched by. Raises StoreDamaged when one lags behind the others."""
        found = {name: self._raw(name, MARK) for name in FAMILIES}
        noted = json.loads(self._raw(HINTS, MARKS) or b"{}")
        for name, mark in found.items():
            number = int.from_bytes(mark, "big") if mark is not None else 0
            if number != noted.get(name, 0):
                raise StoreDamaged(
                    f"{self.directory} is damaged (its family {name} is as of write {number}, not {noted.get(name, 0)})"
                )
        return dict(noted)

    def _noted_timers(self) -> int:
        noted = self._raw(HINTS, TIMERS_FROM) or b""
        current = int.from_bytes(noted[:8], "big") == self._marks.get(TIMERS, 0)
        return int.from_bytes(noted[8:], "big") if current else 0

    @property
    def timers_from(self) -> int:
        return self._timers_from

    def _family(self, name: str) -> Rdict:
        try:
            return self._families[name]
        except KeyError:
            raise StoreError(f"{self.directory} is closed") from None

    def get(self, family: str, key: Key) -> Any:
        place = (family, key)
        row = self._cache.get(place, MISSING)
        if row is not MISSING:
            self._cache.move_to_end(place)
            return row
        value = self._raw(family, keys.encode(key))
        row = None if value is None else self._decoded(family, key, value)
        self._remember(place, row)
        return row

    def _raw(self, family: str, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._family(family).get(key)
        except Exception as error:
            raise _explained(self.directory, error) from error
        return value

    def _decoded(self, family: str, key: Key, value: bytes) -> Any:
        try:
            return self._rows.decode(family, key, value)
        except UndecodableRecord as error:
            raise _explained(self.directory, error) from error

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        start = keys.encode(prefix)
        bounds = ReadOptions()
        bounds.set_iterate_upper_bound(keys.successor(start))
        iterator = self._family(family).iter(bounds)
        iterator.seek((start or FIRST) if after is None else keys.encode(after) + b"\x00")
        for encoded, value in self._read(iterator):
            key = keys.decode(encoded)
            yield key, self._decoded(family, key, value)

    def _read(self, iterator: RdictIter) -> Iterator[tuple[bytes, bytes]]:
        while iterator.valid():
            yield iterator.key(), iterator.value()
            iterator.next()
        try:
            # At a damaged block an iterator ends as it does at the last row.
            iterator.status()
        except Exception as error:
            raise _explained(self.directory, error) from error

    def write(self, changes: Changes, timers_from: int = 0) -> None:
        batch = WriteBatch(raw_mode=True)
        for place, row in changes.items():
            family, key = place
            encoded = keys.encode_last(key) if family == HISTORY else keys.encode(key)
            if row is None:
                batch.delete(encoded, self._handle(family))
            else:
                batch.put(encoded, self._rows.encode(family, row), self._handle(family))
            if family != HISTORY:
                self._remember(place, row)
            else:
                self._cache.pop(place, None)
        touched = {family for family, _ in changes}
        self._mark(batch, touched)
        low = max(self._timers_from, timers_from)
        if TIMERS in touched:
            low = lowest_due(low, changes)
            noted = self._marks[TIMERS].to_bytes(8, "big") + low.to_bytes(8, "big")
            batch.put(TIMERS_FROM, noted, self._handle(HINTS))
        assert self._db is not None
        self._written(partial(self._db.write, batch, self._write_options))
        self._timers_from = low

    def _mark(self, batch: WriteBatch, touched: set[str]) -> None:
        number = max(self._marks.values(), default=0) + 1
        self._marks.update(dict.fromkeys(touched, number))
        for name in touched:
            batch.put(MARK, number.to_bytes(8, "big"), self._handle(name))
        batch.put(MARKS, json.dumps(self._marks).encode(), self._handle(HINTS))

    def _handle(self, name: str) -> Any:
        self._family(name)
        return self._handles[name]

    def _written(self, write: Callable[[], object]) -> None:
        """Write; after a failure the directory is closed: RocksDB takes no more until it is opened again."""
        try:
            write()
        except Exception as error:
            del write
            self.close()
            raise _explained(self.directory, error) from error

    def raw(self, family: str) -> Iterator[tuple[bytes, bytes]]:
        iterator = self._family(family).iter(ReadOptions())
        iterator.seek(FIRST)
        return self._read(iterator)

    def hint(self, name: str) -> bytes | None:
        if not self._families:
            self._open()
        return self._raw(HINTS, name.encode())

    def set_hint(self, name: str, value: bytes) -> None:
        self._written(lambda: self._family(HINTS).put(name.encode(), value))

    def set_aside(self, why: str) -> None:
        self.close()
        # What read the damage may hold the directory open: a scan that was left half way.
        gc.collect()
        set_aside(self.directory, why)
        self._open()

    def flush(self) -> None:
        # Without waiting: rocksdict would hold the GIL until everything is on disk.
        try:
            for family in self._families.values():
                family.flush(wait=False)
        except Exception as error:
            raise _explained(self.directory, error) from error

    def flushed(self) -> bool:
        waiting = (family.property_int_value(UNFLUSHED) for family in self._families.values())
        return not any(waiting)

    def snapshot(self, target: Path) -> None:
        # What is left is flushed by RocksDB's threads: the checkpoint would do it as well, and hold the GIL meanwhile.
        self.flush()
        patience = time.monotonic() + SETTLE_S
        while not self.flushed() and time.monotonic() < patience:
            time.sleep(LOOK_S)
        assert self._db is not None
        try:
            Checkpoint(self._db).create_checkpoint(str(target))
        except Exception as error:
            raise _explained(self.directory, error) from error

    def replace(self, source: Path) -> None:
        self.close()
        # Killed between the two, there is no directory: as before it was restored.
        shutil.rmtree(self.directory, ignore_errors=True)
        self._cache.clear()
        try:
            source.rename(self.directory)
        except OSError as error:
            raise _explained(self.directory, error) from error
        finally:
            self._open()

    def keep(self, rows: int) -> None:
        self._kept = rows
        while len(self._cache) > rows:
            self._cache.popitem(last=False)

    def close(self) -> None:
        failpoint("K14")
        self._cache.clear()
        self._handles.clear()
        families, self._families = self._families, {}
        db, self._db = self._db, None
        problems: dict[str, None] = {}
        for one in (*families.values(), db):
            if one is None:
                continue
            try:
                one.close()
            except Exception as error:
                # It flushes, and a full disk lets it not. What is lost the log has; without references it is closed.
                problems[str(_explained(self.directory, error))] = None
        for problem in problems:
            log.warning("%s", problem)

    def _remember(self, place: tuple[str, Key], row: Any) -> None:
        self._cache[place] = row
        self._cache.move_to_end(place)
        if len(self._cache) > self._kept:
            self._cache.popitem(last=False)


def open_or_rebuild(directory: Path, codec: Codec) -> PartitionStore:
    """For engines: a damaged directory is moved aside, and the state begins empty. Raises StoreError."""
    try:
        return PartitionStore(directory, codec)
    except StoreDamaged as error:
        why = str(error)
    set_aside(directory, why)
    return PartitionStore(directory, codec)


def set_aside(directory: Path, why: str) -> Path:
    """Move a directory that cannot be gone on with out of the way, and keep it: the state is folded anew."""
    at, number = time.strftime("%Y%m%dT%H%M%S"), 1
    kept = directory.with_name(f"{directory.name}.aside-{at}")
    while kept.exists():
        number += 1
        kept = directory.with_name(f"{directory.name}.aside-{at}-{number}")
    try:
        directory.rename(kept)
    except OSError as error:
        raise StoreError(f"{directory} cannot be moved aside: {error}") from error
    log.error("%s; it is kept as %s, the state is folded anew from the log", why, kept.name)
    return kept


DAMAGE = ("orruption", "No such file", "nvalid argument", "onfig")
"""What RocksDB, or rocksdict of its own file, says of files that are not what they were."""


def _explained(directory: Path, error: Exception) -> StoreError:
    text = str(error)
    if isinstance(error, StoreError):
        return error
    if "lock" in text.lower() and "hold" in text.lower():
        return StoreError(
            f"{directory} is in use by another process: stop it, or give this engine another --state-dir ({text})"
        )
    if "No space left" in text or "File too large" in text:
        return StoreError(
            f"{directory}: the disk is full. Free some space; the engine goes on from the log by itself ({text})"
        )
    if isinstance(error, UndecodableRecord) or any(words in text for words in DAMAGE):
        return StoreDamaged(f"{directory} is damaged ({text})")
    return StoreError(f"{directory} cannot be used: {text}")
