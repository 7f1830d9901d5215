"""Timers of workflow code."""

from __future__ import annotations

from typing import Any

from .. import ids
from ..events import TimerCancelled, TimerFired, TimerSet
from ..rows import RunRow
from .fold import Fold

Fields = dict[str, Any]


def timer_set(fold: Fold, run: RunRow, body: TimerSet) -> Fields:
    fold.set_timer("sleep", ids.step_id(body.path, body.n), body.due_at_ms)
    return {"pending_timers": run.pending_timers + 1}


def timer_fired(fold: Fold, run: RunRow, body: TimerFired) -> Fields:
    fold.clear_timer(f"sleep|{body.timer}")
    return {"pending_timers": run.pending_timers - 1}


def timer_cancelled(fold: Fold, run: RunRow, body: TimerCancelled) -> Fields:
    fold.clear_timer(f"sleep|{body.timer}")
    return {"pending_timers": run.pending_timers - 1}
