"""State rebuilt from an events partition by the engine's own `apply`: for comparing, and for looking at the past."""

from __future__ import annotations

from ..core import machine
from ..core.apply.fold import Settings
from ..core.replay import Batch
from ..engine.overlay import Overlay
from ..store.rows import Store, state_hash

FOLD_EVERY = 2_000


class StateFold:
    """Takes batches in their order; `store` holds them once `write` was called."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self._overlay = Overlay(store)
        self._settings = settings
        self._folded = 0

    def claim(self, batch: Batch) -> None:
        """A take-over of the partition."""
        machine.apply(self._overlay, batch.footer, self._settings)
        self.write()

    def batch(self, batch: Batch, footer_offset: int) -> None:
        """A batch that its footer proves."""
        for record in batch.records:
            machine.apply(self._overlay, record, self._settings)
        machine.apply_footer(self._overlay, batch.footer, footer_offset + 1, self._settings)
        self._folded += len(batch.records) + 1
        if self._folded >= FOLD_EVERY:
            self.write()

    def write(self) -> None:
        """Everything taken so far goes into the store."""
        self.store.write(self._overlay.take_open())
        self._folded = 0

    def hash(self) -> bytes:
        """The state's hash; the store is closed then."""
        self.write()
        try:
            return state_hash(self.store)
        finally:
            self.store.close()
