"""One RocksDB per partition.

Raw mode, WAL on and not synced (the Kafka log is the write-ahead log), one write batch a commit.
"""

from __future__ import annotations

import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from ..codec.records import Codec
from ..core.rows import FAMILIES, HISTORY, Key
from ..errors import StoreError
from ..failpoints import failpoint
from . import keys
from .rows import Changes, RowCodec

HINTS = "hints"
BLOCK_CACHE_BYTES = 128 * 1024 * 1024
WRITE_BUFFER_BYTES = 128 * 1024 * 1024
ROW_CACHE_ROWS = 20_000
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
    table = BlockBasedOptions()
    table.set_block_cache(blocks)
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    return options


class PartitionStore:
    """The rows of one partition on disk. Not thread-safe: the partition's thread owns it."""

    def __init__(self, directory: Path, codec: Codec) -> None:
        """Opens or makes `directory`.

        Raises StoreError when it is locked by another process, corrupt or not writable.
        """
        self.directory = directory
        self._rows = RowCodec(codec)
        self._cache: OrderedDict[tuple[str, Key], Any] = OrderedDict()
        self._write_options = WriteOptions()
        self._open()

    def _open(self) -> None:
        families = {name: _options() for name in (*FAMILIES, HINTS)}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._db = Rdict(str(self.directory), _options(), column_families=families)
            self._families = {name: self._db.get_column_family(name) for name in families}
            self._handles = {name: self._db.get_column_family_handle(name) for name in families}
        except Exception as error:
            # rocksdict raises plain Exception for everything RocksDB says.
            raise StoreError(_explain(self.directory, error)) from error

    def get(self, family: str, key: Key) -> Any:
        place = (family, key)
        row = self._cache.get(place, MISSING)
        if row is not MISSING:
            self._cache.move_to_end(place)
            return row
        value = self._families[family].get(keys.encode(key))
        row = None if value is None else self._rows.decode(family, key, value)
        self._remember(place, row)
        return row

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        start = keys.encode(prefix)
        bounds = ReadOptions()
        bounds.set_iterate_upper_bound(keys.successor(start))
        iterator = self._families[family].iter(bounds)
        iterator.seek(start if after is None else keys.encode(after) + b"\x00")
        while iterator.valid():
            key = keys.decode(iterator.key())
            yield key, self._rows.decode(family, key, iterator.value())
            iterator.next()

    def write(self, changes: Changes) -> None:
        batch = WriteBatch(raw_mode=True)
        for place, row in changes.items():
            family, key = place
            encoded = keys.encode_last(key) if family == HISTORY else keys.encode(key)
            if row is None:
                batch.delete(encoded, self._handles[family])
            else:
                batch.put(encoded, self._rows.encode(family, row), self._handles[family])
            if family != HISTORY:
                self._remember(place, row)
            else:
                self._cache.pop(place, None)
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:
            self._cache.clear()
            raise StoreError(_explain(self.directory, error)) from error

    def raw(self, family: str) -> Iterator[tuple[bytes, bytes]]:
        iterator = self._families[family].iter(ReadOptions())
        iterator.seek_to_first()
        while iterator.valid():
            yield iterator.key(), iterator.value()
            iterator.next()

    def hint(self, name: str) -> bytes | None:
        value: bytes | None = self._families[HINTS].get(name.encode())
        return value

    def set_hint(self, name: str, value: bytes) -> None:
        self._families[HINTS].put(name.encode(), value)

    def clear(self) -> None:
        self.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._cache.clear()
        self._open()

    def flush(self) -> None:
        # Without waiting: rocksdict would hold the GIL until everything is on disk.
        try:
            for family in self._families.values():
                family.flush(wait=False)
        except Exception as error:
            raise StoreError(_explain(self.directory, error)) from error

    def flushed(self) -> bool:
        waiting = (family.property_int_value(UNFLUSHED) for family in self._families.values())
        return not any(waiting)

    def snapshot(self, target: Path) -> None:
        # What is left is flushed by RocksDB's threads: the checkpoint would do it as well, and hold the GIL meanwhile.
        self.flush()
        patience = time.monotonic() + SETTLE_S
        while not self.flushed() and time.monotonic() < patience:
            time.sleep(LOOK_S)
        try:
            Checkpoint(self._db).create_checkpoint(str(target))
        except Exception as error:
            raise StoreError(_explain(self.directory, error)) from error

    def replace(self, source: Path) -> None:
        self.close()
        # Killed between the two, there is no directory: as before it was restored.
        shutil.rmtree(self.directory, ignore_errors=True)
        self._cache.clear()
        try:
            source.rename(self.directory)
        except OSError as error:
            raise StoreError(_explain(self.directory, error)) from error
        finally:
            self._open()

    def close(self) -> None:
        failpoint("K14")
        self._handles.clear()
        for family in self._families.values():
            family.close()
        self._families.clear()
        self._db.close()

    def _remember(self, place: tuple[str, Key], row: Any) -> None:
        self._cache[place] = row
        self._cache.move_to_end(place)
        if len(self._cache) > ROW_CACHE_ROWS:
            self._cache.popitem(last=False)


def _explain(directory: Path, error: Exception) -> str:
    text = str(error)
    if "lock" in text.lower():
        return f"{directory} is in use by another process: stop it, or give this engine another --state-dir ({text})"
    if "No space left" in text:
        return f"{directory}: the disk is full. Free some space; the engine goes on from the log by itself ({text})"
    if "orruption" in text:
        return f"{directory} is damaged. Delete it: it is rebuilt from the log, nothing is lost ({text})"
    return f"{directory} cannot be used: {text}"
