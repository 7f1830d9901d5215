"""How far an audit is: a changing line for people at a terminal, a line a second for programs that read lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

import click

from orchestrator.projections.audit import Progress

from .output import Progress as Line, dumps

LARGE = 100_000
"""Records from which on processes of their own are worth their start."""
MOST = 4
"""Processes, unless told otherwise: each takes about 90 MB."""
EVERY_S = 1.0


class Shown:
    """The progress of one audit. `ends`: the offset behind the last record of each partition that is read."""

    def __init__(self, ends: Mapping[int, int], first: int, output: str) -> None:
        self._records: dict[int, int] = {}
        self._total = sum(max(0, end - first) for end in ends.values())
        self._output = output
        self._line = Line() if sys.stderr.isatty() else None
        self._began = self._told = time.monotonic()

    @property
    def processes(self) -> int:
        """As many as the topic's size and this machine make useful."""
        return min(MOST, os.cpu_count() or 1) if self._total >= LARGE else 1

    def progress(self, done: Progress) -> None:
        """A partition was read so far."""
        self._records[done.partition] = done.records
        now = time.monotonic()
        if now - self._told < EVERY_S:
            return
        self._told = now
        records = sum(self._records.values())
        rate = int(records / (now - self._began))
        if self._line is not None:
            self._line.show(f"{records:,} of {self._total:,} offsets, {rate:,} records/s")
        if self._output == "jsonl":
            said = {"kind": "progress", "partition": done.partition, "offset": done.offset}
            click.echo(dumps({**said, "records": records, "offsets": self._total, "records_per_s": rate}))

    def end(self) -> None:
        """Leave a clean line."""
        if self._line is not None:
            self._line.clear()
