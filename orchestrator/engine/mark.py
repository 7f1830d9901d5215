"""The run whose turn is on, in a small mapped file: what a process wrote there outlives its death.

A hint for messages, nothing else: which run is parked is decided by the attempts on the log (`careful.py`).
"""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

SIZE = 512


class Mark:
    """One partition's. Without a directory it is kept in no file."""

    def __init__(self, directory: Path | None, number: int) -> None:
        self._last = b""
        self._map: mmap.mmap | bytearray = bytearray(SIZE)
        if directory is not None:
            # A hint is not worth a partition: on a full disk there is none.
            with contextlib.suppress(OSError, ValueError):
                self._map = _mapped(directory / f"{number}.turn")
        self._left = bytes(self._map[1:]).rstrip(b"\0").decode(errors="replace") if self._map[0] else ""
        self.off()

    def take(self) -> str:
        """The run that a process which ended here in the middle of a turn left; empty if none, and the next time."""
        left, self._left = self._left, ""
        return left

    def on(self, workflow_id: str, run_id: str) -> None:
        """This run's turn begins."""
        name = f"{workflow_id} (run {run_id})".encode()[: SIZE - 1]
        if name != self._last:
            self._map[1:] = name.ljust(SIZE - 1, b"\0")
            self._last = name
        self._map[0] = 1

    def off(self) -> None:
        """It ended."""
        self._map[0] = 0


def _mapped(path: Path) -> mmap.mmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.truncate(SIZE)
        return mmap.mmap(file.fileno(), SIZE)
