"""A batch being built.

Sealed records, what they ask of the world once committed or proven, and what to put back if they are lost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from typing import TypeVar

from ..core.events import Record, RunParked, StepParked
from ..core.rows import Key, OutboxRow
from ..core.tasks import Reply
from ..core.values import BatchId, ReplyTo
from ..sdk.execution import StepReport
from .steps import Effect
from .turns import RunKey

T = TypeVar("T")
AT_LEAST = 10
"""Outcomes, due timers and commands that get into every batch, even if there is no room left for them."""


class Batch:
    """One transaction's worth. `batch_id` is never reused; `level` is what its events are written at."""

    def __init__(self, batch_id: BatchId, now_ms: int, next_offset: int, level: int = 1) -> None:
        self.batch_id = batch_id
        self.now_ms = now_ms
        self.next_offset = next_offset
        self.no_turn_after = inf
        """The moment, of `perf_counter`, from which on it has no room."""
        self.level = level
        self.trace = ""
        """The trace context of what is decided now: its events carry it."""
        self.commit_s = 0.0
        self.timers_from = 0
        """After this batch no timer is due before it, but for those that the batch put since it was asked for them."""
        self.records: list[Record] = []
        self.footer: Record | None = None
        self.bytes = 0
        self._most_bytes: float = inf
        self.longest_turn_s = 0.0
        self.cuts = False
        """Whether it is to end before a run begins, once it holds anything."""
        self.woken: deque[RunKey] = deque()
        self.silent: dict[RunKey, int] = {}
        """Runs whose newest turn issued nothing, and the `seq` of its delivery: recorded at the batch's end."""
        self.on_commit: list[Effect] = []
        self.on_proof: list[Effect] = []
        self.answers: list[tuple[ReplyTo, Reply]] = []
        self.outbox: list[tuple[Key, OutboxRow]] = []
        self.awaited: dict[RunKey, None] = {}
        """Runs of which something came that a caller may wait for: their end, or that of an update."""
        self.parked: list[tuple[RunKey, RunParked | StepParked]] = []
        """What stands still from now on until somebody does something."""
        self.reports: list[StepReport] = []

    def bound(self, most_ms: float, most_bytes: int, cuts: bool = False) -> None:
        """How long it may be built from now on, and how large its events may be together."""
        self.no_turn_after = time.perf_counter() + most_ms / 1000
        self._most_bytes = most_bytes
        self.cuts = cuts

    def has_room(self) -> bool:
        """Whether more may be put into it."""
        return self.bytes < self._most_bytes and time.perf_counter() < self.no_turn_after

    def some(self, queue: deque[T], stop: Callable[[T], bool] = lambda _: False) -> Iterator[T]:
        """Take from a queue what there is room for; some get into every batch, however long another queue is.

        Nothing from the first on that is to `stop` it.
        """
        taken = 0
        while queue and (taken < AT_LEAST or self.has_room()) and not stop(queue[0]):
            yield queue.popleft()
            taken += 1

    def add(self, record: Record) -> None:
        """A sealed and applied event."""
        self.records.append(record)
        self.bytes += len(record.value)

    @property
    def empty(self) -> bool:
        """Nothing for the log."""
        return not self.records and not self.silent and self.footer is None

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """Keys and values as they are produced, footer last."""
        assert self.footer is not None
        return [(record.key, record.value) for record in (*self.records, self.footer)]
