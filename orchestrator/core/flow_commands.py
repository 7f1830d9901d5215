"""Commands of flow control: between a run and the home of the limits that it needs."""

from __future__ import annotations

from typing import NamedTuple

from .values import LimitedTask, LimitNeed


class AcquireSlots(NamedTuple):
    """A task asks the home of its limits to let it begin. The home answers with `AdmitTask` when its turn has come."""

    task: LimitedTask
    needs: tuple[LimitNeed, ...]


class ReleaseSlots(NamedTuple):
    """The task is over, or wants to begin no more."""

    task: LimitedTask


class AdmitTask(NamedTuple):
    """The task holds a slot of everything that it needs: it begins."""

    task: LimitedTask
