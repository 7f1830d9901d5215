"""State as of the last applied event: the store, and above it what the log does not yet prove.

Two layers: `committed`, a batch whose transaction returned OK and whose footer was not read back yet, and `open`, the
batch being built. Only what is proven moves into the store.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from ..core.rows import FAMILIES, TIMERS, Key
from ..store.rows import Store

Layer = dict[str, dict[Key, Any]]
_MISSING = object()


def _layer() -> Layer:
    return {family: {} for family in FAMILIES}


class Overlay:
    """A view that takes writes (core's `Changes`)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._open = _layer()
        self._committed = _layer()
        self.earliest_timer_ms = 0
        """The earliest due time put since it was last raised: where a scan for due timers must begin."""

    def get(self, family: str, key: Key) -> Any:
        row = self._open[family].get(key, _MISSING)
        if row is _MISSING:
            row = self._committed[family].get(key, _MISSING)
            if row is _MISSING:
                return self.store.get(family, key)
        return row

    def put(self, family: str, key: Key, row: Any) -> None:
        self._open[family][key] = row
        if family == TIMERS and row is not None and key[0] == 1:
            self.earliest_timer_ms = min(self.earliest_timer_ms, int(key[1]))

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        length = len(prefix)
        above = {
            key: row
            for layer in (self._committed, self._open)
            for key, row in layer[family].items()
            if key[:length] == prefix and (after is None or _order(key) > _order(after))
        }
        below = self.store.scan(family, prefix, after)
        if not above:
            return below
        return _merge(sorted(above.items(), key=lambda item: _order(item[0])), below, above)

    def commit(self) -> None:
        """The open layer's transaction returned OK. The committed layer must have been taken."""
        self._open, self._committed = _layer(), self._open

    def put_committed(self, family: str, key: Key, row: Any) -> None:
        """A change that belongs to the batch that was just proven (its footer's)."""
        self._committed[family][key] = row

    def take_committed(self) -> dict[tuple[str, Key], Any]:
        """The proven batch's changes, for one write batch."""
        changes = {(family, key): row for family, rows in self._committed.items() for key, row in rows.items()}
        self._committed = _layer()
        return changes

    def take_open(self) -> dict[tuple[str, Key], Any]:
        """The open layer's changes, for a restore that folds what the log already proves."""
        changes = {(family, key): row for family, rows in self._open.items() for key, row in rows.items()}
        self._open = _layer()
        return changes

    def peek_open(self) -> list[tuple[tuple[str, Key], Any]]:
        """The open layer's changes, left where they are."""
        return [((family, key), row) for family, rows in self._open.items() for key, row in rows.items()]

    def discard(self) -> None:
        """Forget everything the log does not prove."""
        self._open = _layer()
        self._committed = _layer()


class FooterView:
    """The overlay as a proven footer's `apply` sees and changes it: its changes join the batch that it proves."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def get(self, family: str, key: Key) -> Any:
        return self._overlay.get(family, key)

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        return self._overlay.scan(family, prefix, after)

    def put(self, family: str, key: Key, row: Any) -> None:
        self._overlay.put_committed(family, key, row)


def _order(key: Key) -> tuple[tuple[bool, Any], ...]:
    return tuple((isinstance(part, str), part) for part in key)


def _merge(
    above: list[tuple[Key, Any]], below: Iterator[tuple[Key, Any]], hidden: dict[Key, Any]
) -> Iterator[tuple[Key, Any]]:
    visible = (item for item in below if item[0] not in hidden)
    for key, row in heapq.merge(above, visible, key=lambda item: _order(item[0])):
        if row is not None:
            yield key, row
