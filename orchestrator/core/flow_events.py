"""What happened at the home of limits: records of its partition, `seq` 0. One record type each."""

from __future__ import annotations

from typing import NamedTuple

from .values import LimitedTask, LimitNeed


class SlotsAwaited(NamedTuple):
    """A task may not begin yet: it waits in the queue of `needs[waits_for]` and holds nothing."""

    task: LimitedTask
    needs: tuple[LimitNeed, ...]
    waits_for: int


class SlotsMoved(NamedTuple):
    """A task's turn came, but another of its limits is full by now: it waits in the queue of that one."""

    task: LimitedTask
    waits_for: int


class SlotsGranted(NamedTuple):
    """A task holds a slot of everything that it needs, all at once. `needs` is empty if it had waited."""

    task: LimitedTask
    needs: tuple[LimitNeed, ...] = ()


class SlotsReleased(NamedTuple):
    """A task is over: what it held is free; or it waits no more."""

    task: LimitedTask


class TaskDisplaced(NamedTuple):
    """A limit's strategy gives the task up: its run is asked to cancel."""

    task: LimitedTask
    limit: str
    why: str


class LimitForgotten(NamedTuple):
    """Nobody has needed the limit for as long as it remembers."""

    limit: str
    limit_key: str
