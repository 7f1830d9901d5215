"""What an engine tells whoever watches it. This one watches nothing, and costs a call a batch."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.events import Record


class Observer:
    """Told by partition threads, after the fact; must return at once and never raise. Times in seconds."""

    def proven(self, partition: int, records: Sequence[Record], commit_s: float) -> None:
        """A batch was read back. `commit_s`: from its transaction's beginning until its commit returned."""

    def restored(self, partition: int, events: int, took_s: float) -> None:
        """A partition was taken over: this many events were folded, and it took so long to its claim's read-back."""

    def timer(self, partition: int, late_s: float) -> None:
        """A durable timer fires, so long after it was due."""

    def state(self, partition: int, state: str) -> None:
        """What a partition does now: restoring, owned, parked, stopped."""

    def standby(self, partition: int, behind: int | None) -> None:
        """A partition of another process is followed, so many offsets behind; None: no longer. From its own thread."""


NOBODY = Observer()
