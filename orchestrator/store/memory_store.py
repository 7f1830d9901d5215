"""A store in memory with the same bytes as RocksDB would hold: for tests, and for folding a log without a directory."""

from __future__ import annotations

import bisect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..codec.records import Codec
from ..core.rows import FAMILIES, Key
from . import keys
from .rows import Changes, RowCodec, lowest_due

HINTS = "hints"
TIMERS_FROM = "\x00timers"


class MemoryStore:
    """Sorted keys and encoded rows by family."""

    def __init__(self, codec: Codec) -> None:
        self._rows = RowCodec(codec)
        self._hints: dict[str, bytes] = {}
        self._data: dict[str, dict[bytes, bytes]] = {}
        self._order: dict[str, list[bytes]] = {}
        self.set_aside("")

    def get(self, family: str, key: Key) -> Any:
        value = self._data[family].get(keys.encode(key))
        return None if value is None else self._rows.decode(family, key, value)

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        start = keys.encode(prefix)
        end = keys.successor(start)
        order = self._order[family]
        at = bisect.bisect_left(order, start) if after is None else bisect.bisect_right(order, keys.encode(after))
        while at < len(order) and order[at] < end:
            encoded = order[at]
            key = keys.decode(encoded)
            yield key, self._rows.decode(family, key, self._data[family][encoded])
            at = bisect.bisect_right(order, encoded)

    @property
    def timers_from(self) -> int:
        return int(self._hints.get(TIMERS_FROM, b"0"))

    def write(self, changes: Changes, timers_from: int = 0) -> None:
        low = lowest_due(max(self.timers_from, timers_from), changes)
        self._hints[TIMERS_FROM] = b"%d" % low
        for (family, key), row in changes.items():
            encoded = keys.encode(key)
            known = encoded in self._data[family]
            if row is None:
                if known:
                    del self._data[family][encoded]
                    order = self._order[family]
                    del order[bisect.bisect_left(order, encoded)]
                continue
            if not known:
                bisect.insort(self._order[family], encoded)
            self._data[family][encoded] = self._rows.encode(family, row)

    def raw(self, family: str) -> Iterator[tuple[bytes, bytes]]:
        for encoded in self._order[family]:
            yield encoded, self._data[family][encoded]

    def hint(self, name: str) -> bytes | None:
        return self._hints.get(name)

    def set_hint(self, name: str, value: bytes) -> None:
        self._hints[name] = value

    def set_aside(self, why: str) -> None:
        self._hints.clear()
        self._data = {family: {} for family in FAMILIES}
        self._order = {family: [] for family in FAMILIES}

    def flush(self) -> None:
        """Memory is all there is."""

    def flushed(self) -> bool:
        return True

    def snapshot(self, target: Path) -> None:
        target.mkdir()
        for family in (*FAMILIES, HINTS):
            rows = self.raw(family) if family != HINTS else ((k.encode(), v) for k, v in self._hints.items())
            data = b"".join(len(part).to_bytes(4, "big") + part for row in rows for part in row)
            (target / family).write_bytes(data)

    def replace(self, source: Path) -> None:
        self.set_aside("")
        for family in (*FAMILIES, HINTS):
            parts = list(_parts((source / family).read_bytes()))
            rows = dict(zip(parts[::2], parts[1::2], strict=True))
            if family == HINTS:
                self._hints = {name.decode(): value for name, value in rows.items()}
            else:
                self._data[family], self._order[family] = rows, list(rows)
        shutil.rmtree(source)

    def keep(self, rows: int) -> None:
        """None are decoded."""

    def close(self) -> None:
        """Nothing is held."""


def _parts(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : end]
        at = end
