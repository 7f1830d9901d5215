"""Attempts of a run that need slots: of those with the same needs only so many ask at a time.

Thousands of steps at once would else put as many questions before everybody else's commands.
"""

from __future__ import annotations

from ..limit_rows import HIGHEST_PRIORITY, LIMITS, LaneRow, LaterRow, lane_key, later_key
from ..rows import STEPS, StepRow, step_key
from ..values import LimitNeed
from . import flow
from .fold import Fold

ASK_AT_ONCE = 16


def enter(fold: Fold, step: str, attempt: int, limits: tuple[LimitNeed, ...]) -> int:
    """An attempt needs slots: it asks now, or when one of its lane was admitted. Its row's `asks_later`."""
    lane, found = _lane(fold, limits)
    if found.asked < ASK_AT_ONCE:
        _put(fold, lane, LaneRow(found.asked + 1, found.later))
        flow.ask(fold, limits, step, attempt)
        return 0
    seq = fold.event.seq
    fold.state.put(LIMITS, _later(fold, lane, limits, seq), LaterRow(step, attempt))
    _put(fold, lane, LaneRow(found.asked, found.later + 1))
    return seq


def admitted(fold: Fold, row: StepRow) -> None:
    """An attempt that had asked waits no more: the next one asks."""
    lane, found = _lane(fold, row.options.limits)
    _go_on(fold, row.options.limits, lane, found._replace(asked=found.asked - 1))


def leave(fold: Fold, step: str, row: StepRow) -> None:
    """An attempt is over, or never begins. Between two attempts a step holds no slot and waits for none."""
    limits = row.options.limits
    if not _needs_any(row):
        return
    if row.asks_later:
        lane, found = _lane(fold, limits)
        fold.state.put(LIMITS, _later(fold, lane, limits, row.asks_later), None)
        _put(fold, lane, found._replace(later=found.later - 1))
        return
    flow.give_back(fold, limits, step, row.attempt)
    if row.state == "limited":
        admitted(fold, row)


def close(fold: Fold) -> None:
    """The run closes: nobody of it asks any more. Its attempts leave by `end_with_run`."""
    event = fold.event
    for prefix in (lane_key(event.workflow_id, event.run_id), later_key(event.workflow_id, event.run_id)):
        for key, _ in list(fold.state.scan(LIMITS, prefix)):
            fold.state.put(LIMITS, key, None)


def end_with_run(fold: Fold, step: str, row: StepRow) -> None:
    """An attempt's run closes."""
    if _needs_any(row) and not row.asks_later:
        flow.give_back(fold, row.options.limits, step, row.attempt)


def _needs_any(row: StepRow) -> bool:
    return bool(row.options.limits) and row.state not in ("backoff", "parked")


def _go_on(fold: Fold, limits: tuple[LimitNeed, ...], lane: tuple[str, ...], row: LaneRow) -> None:
    if not row.later:
        _put(fold, lane, row)
        return
    event = fold.event
    key, following = next(iter(fold.state.scan(LIMITS, later_key(event.workflow_id, event.run_id, *lane))))
    fold.state.put(LIMITS, key, None)
    _put(fold, lane, LaneRow(row.asked + 1, row.later - 1))
    waiting = step_key(event.workflow_id, event.run_id, following.step)
    step: StepRow = fold.state.get(STEPS, waiting)
    fold.state.put(STEPS, waiting, step._replace(asks_later=0))
    flow.ask(fold, step.options.limits, following.step, following.attempt)


def _lane(fold: Fold, limits: tuple[LimitNeed, ...]) -> tuple[tuple[str, ...], LaneRow]:
    lane = tuple(part for need in limits for part in (need.name, need.key, need.fairness))
    row: LaneRow | None = fold.state.get(LIMITS, lane_key(fold.event.workflow_id, fold.event.run_id, *lane))
    return lane, row or LaneRow()


def _put(fold: Fold, lane: tuple[str, ...], row: LaneRow) -> None:
    key = lane_key(fold.event.workflow_id, fold.event.run_id, *lane)
    fold.state.put(LIMITS, key, row if row.asked or row.later else None)


def _later(fold: Fold, lane: tuple[str, ...], limits: tuple[LimitNeed, ...], seq: int) -> tuple[str | int, ...]:
    event = fold.event
    return later_key(event.workflow_id, event.run_id, *lane, HIGHEST_PRIORITY - limits[0].priority, seq)
