"""What a `BlockingClient` has besides runs: schedules, approvals and limits, without `await`."""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Any, Literal, ParamSpec

from orchestrator.core.schedules import ScheduleAction
from orchestrator.core.tasks import Reply
from orchestrator.sdk.workflow import Workflow

from .approvals import ApprovalRequest, Approvals
from .limits import LimitDescription, Limits
from .loop_thread import LoopThread
from .schedules import Overlap, Schedule, ScheduleDescription, ScheduleHandle, Schedules

P = ParamSpec("P")


class BlockingApprovals:
    """`Approvals` without `await`."""

    def __init__(self, thread: LoopThread, approvals: Approvals) -> None:
        self._thread = thread
        self._approvals = approvals

    def list(self, *, name: str = "", to: str = "") -> builtins.list[ApprovalRequest]:
        """See `Approvals.list`; all at once."""
        return self._thread.every(self._approvals.list(name=name, to=to))

    def describe(self, id: str) -> ApprovalRequest:
        """See `Approvals.describe`."""
        return self._thread.run(self._approvals.describe(id))

    def approve(self, id: str, digest: str, *, by: str = "", comment: str = "") -> Reply:
        """See `Approvals.approve`."""
        return self._thread.run(self._approvals.approve(id, digest, by=by, comment=comment))

    def reject(self, id: str, digest: str, *, by: str = "", comment: str = "") -> Reply:
        """See `Approvals.reject`."""
        return self._thread.run(self._approvals.reject(id, digest, by=by, comment=comment))


class BlockingLimits:
    """`Limits` without `await`."""

    def __init__(self, thread: LoopThread, limits: Limits) -> None:
        self._thread = thread
        self._limits = limits

    def list(self) -> builtins.list[LimitDescription]:
        """See `Limits.list`; all at once."""
        return self._thread.every(self._limits.list())

    def describe(self, name: str, key: str = "", group: str = "default") -> LimitDescription:
        """See `Limits.describe`."""
        return self._thread.run(self._limits.describe(name, key, group))


class BlockingSchedule:
    """`ScheduleHandle` without `await`."""

    def __init__(self, thread: LoopThread, handle: ScheduleHandle) -> None:
        self.id = handle.id
        self._thread = thread
        self._handle = handle

    def describe(self) -> ScheduleDescription:
        """See `ScheduleHandle.describe`."""
        return self._thread.run(self._handle.describe())

    def pause(self, note: str = "") -> Reply:
        """See `ScheduleHandle.pause`."""
        return self._thread.run(self._handle.pause(note))

    def resume(self, note: str = "") -> Reply:
        """See `ScheduleHandle.resume`."""
        return self._thread.run(self._handle.resume(note))

    def trigger(self, overlap: Overlap | Literal[""] = "") -> Reply:
        """See `ScheduleHandle.trigger`."""
        return self._thread.run(self._handle.trigger(overlap))

    def backfill(self, start: datetime, end: datetime, overlap: Overlap = "allow_all") -> Reply:
        """See `ScheduleHandle.backfill`."""
        return self._thread.run(self._handle.backfill(start, end, overlap))

    def delete(self) -> Reply:
        """See `ScheduleHandle.delete`."""
        return self._thread.run(self._handle.delete())


class BlockingSchedules:
    """`Schedules` without `await`."""

    def __init__(self, thread: LoopThread, schedules: Schedules) -> None:
        self._thread = thread
        self._schedules = schedules

    def create(
        self, id: str, schedule: Schedule, workflow: Workflow[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> BlockingSchedule:
        """See `Schedules.create`."""
        made = self._thread.run(self._schedules.create(id, schedule, workflow, *args, **kwargs))
        return BlockingSchedule(self._thread, made)

    def create_raw(self, id: str, schedule: Schedule, action: ScheduleAction) -> Reply:
        """See `Schedules.create_raw`."""
        return self._thread.run(self._schedules.create_raw(id, schedule, action))

    def handle(self, id: str) -> BlockingSchedule:
        """See `Schedules.handle`."""
        return BlockingSchedule(self._thread, self._schedules.handle(id))

    def list(self) -> builtins.list[ScheduleDescription]:
        """See `Schedules.list`; all at once."""
        return self._thread.every(self._schedules.list())
