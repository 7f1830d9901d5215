"""State as of the last applied event: the store, and above it what the log does not yet prove.

Two layers: `committed`, a batch whose transaction returned OK and whose footer was not read back yet, and `open`, the
batch being built. Only what is proven moves into the store.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator
from typing import Any

from ..core.rows import FAMILIES, TIMERS, Key, due_of
from ..store.rows import Store

_MISSING = object()
FEW = 64
"""New keys up to this many are put in their places one by one; more are sorted in."""


class _Top:
    """Above every part of a key."""

    def __gt__(self, other: object) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        return False


_TOP: Any = _Top()


class Layer:
    """Rows of every family, None where one is to be deleted. Keys are put in order only where somebody scans."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Key, Any]] = {family: {} for family in FAMILIES}
        self._ordered: dict[str, list[Key]] = {family: [] for family in FAMILIES}
        self._fresh: dict[str, list[Key]] = {family: [] for family in FAMILIES}

    def put(self, family: str, key: Key, row: Any) -> None:
        """A row, or None to delete it below."""
        rows = self.rows[family]
        if key not in rows:
            self._fresh[family].append(key)
        rows[key] = row

    def within(self, family: str, prefix: Key, after: Key | None) -> list[Key]:
        """Keys that begin with `prefix`, in order, behind `after`.

        Keys of one family have the same type in the same place, but behind a place that tells them apart.
        """
        keys, fresh = self._ordered[family], self._fresh[family]
        if len(fresh) > FEW:
            keys += fresh
            keys.sort()
        else:
            for key in fresh:
                bisect.insort(keys, key)
        fresh.clear()
        start = bisect.bisect_left(keys, prefix) if after is None else bisect.bisect_right(keys, after)
        return keys[start : bisect.bisect_left(keys, (*prefix, _TOP))]


class Overlay:
    """A view that takes writes (core's `Changes`)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._open = Layer()
        self._committed = Layer()
        self.earliest_timer_ms = 0
        """The earliest due time put since it was last raised: where a scan for due timers must begin."""

    def get(self, family: str, key: Key) -> Any:
        row = self._open.rows[family].get(key, _MISSING)
        if row is _MISSING:
            row = self._committed.rows[family].get(key, _MISSING)
            if row is _MISSING:
                return self.store.get(family, key)
        return row

    def put(self, family: str, key: Key, row: Any) -> None:
        self._open.put(family, key, row)
        if family == TIMERS and row is not None:
            self.earliest_timer_ms = min(self.earliest_timer_ms, due_of(key))

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        return self._scan((self._committed, self._open), family, prefix, after)

    def get_committed(self, family: str, key: Key) -> Any:
        """A row without what the open layer did to it."""
        row = self._committed.rows[family].get(key, _MISSING)
        return self.store.get(family, key) if row is _MISSING else row

    def scan_committed(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        """Rows without what the open layer did to them."""
        return self._scan((self._committed,), family, prefix, after)

    def _scan(
        self, layers: tuple[Layer, ...], family: str, prefix: Key, after: Key | None
    ) -> Iterator[tuple[Key, Any]]:
        above = {key: layer.rows[family][key] for layer in layers for key in layer.within(family, prefix, after)}
        below = self.store.scan(family, prefix, after)
        return _merge(sorted(above.items(), key=_key), below, above) if above else below

    def touches(self, family: str) -> bool:
        """Whether the open layer changes rows of a family."""
        return bool(self._open.rows[family])

    def commit(self) -> None:
        """The open layer's transaction returned OK. The committed layer must have been taken."""
        self._open, self._committed = Layer(), self._open

    def put_committed(self, family: str, key: Key, row: Any) -> None:
        """A change that belongs to the batch that was just proven (its footer's)."""
        self._committed.put(family, key, row)

    def take_committed(self) -> dict[tuple[str, Key], Any]:
        """The proven batch's changes, for one write batch."""
        changes = _changes(self._committed)
        self._committed = Layer()
        return changes

    def take_open(self) -> dict[tuple[str, Key], Any]:
        """The open layer's changes, for a restore that folds what the log already proves."""
        changes = _changes(self._open)
        self._open = Layer()
        return changes

    def peek_open(self) -> list[tuple[tuple[str, Key], Any]]:
        """The open layer's changes, left where they are."""
        return list(_changes(self._open).items())

    def discard(self) -> None:
        """Forget everything the log does not prove."""
        self._open = Layer()
        self._committed = Layer()


class FooterView:
    """The overlay as a proven footer's `apply` sees and changes it: its changes join the batch that it proves.

    The batch that is built meanwhile is not seen: at a restore it comes later, and the footer must do the same there.
    """

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def get(self, family: str, key: Key) -> Any:
        return self._overlay.get_committed(family, key)

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        return self._overlay.scan_committed(family, prefix, after)

    def put(self, family: str, key: Key, row: Any) -> None:
        self._overlay.put_committed(family, key, row)


def _changes(layer: Layer) -> dict[tuple[str, Key], Any]:
    return {(family, key): row for family, rows in layer.rows.items() for key, row in rows.items()}


def _key(item: tuple[Key, Any]) -> Key:
    return item[0]


def _merge(
    above: list[tuple[Key, Any]], below: Iterator[tuple[Key, Any]], hidden: dict[Key, Any]
) -> Iterator[tuple[Key, Any]]:
    visible = (item for item in below if item[0] not in hidden)
    for key, row in heapq.merge(above, visible, key=_key):
        if row is not None:
            yield key, row
