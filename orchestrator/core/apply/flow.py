"""How the events of flow control change rows: at the home of the limits, and of the step or run that needs them."""

from __future__ import annotations

from typing import Any

from ..commands import AcquireSlots, AdmitTask, CancelWorkflow, ReleaseSlots
from ..events import (
    LimitForgotten,
    RunAdmitted,
    SlotsAwaited,
    SlotsGranted,
    SlotsMoved,
    SlotsReleased,
    TaskDisplaced,
)
from ..limit_rows import (
    HIGHEST_PRIORITY,
    HolderRow,
    LimitHomeRow,
    LimitRow,
    LimitTaskRow,
    RateRow,
    TurnRow,
    WaiterRow,
    holder_key,
    home_key,
    home_of,
    limit_key,
    queue_key,
    rate_free_at,
    rate_key,
    task_key,
    turn_key,
)
from ..rows import LIMITS, RunRow
from ..values import LimitedTask, LimitNeed
from .fold import Fold

TIMER = "limit"
Fields = dict[str, Any]


# -- of the run or step that needs slots -------------------------------------------------------------------------------


def ask(fold: Fold, limits: tuple[LimitNeed, ...], step: str = "", attempt: int = 0) -> None:
    """Ask the home of the limits for a slot of each."""
    event = fold.event
    task = LimitedTask(event.workflow_id, event.run_id, step, attempt)
    fold.send_command(home_of(limits[0].group), AcquireSlots(task, limits), step=step)


def give_back(fold: Fold, limits: tuple[LimitNeed, ...], step: str = "", attempt: int = 0) -> None:
    """What was asked for is wanted no more: it follows the question on its way, so nothing is left behind."""
    event = fold.event
    task = LimitedTask(event.workflow_id, event.run_id, step, attempt)
    fold.send_command(home_of(limits[0].group), ReleaseSlots(task))


def run_admitted(fold: Fold, run: RunRow, body: RunAdmitted) -> Fields:
    if fold.copied:
        # The run it is copied from was: this one has asked for itself.
        return {}
    return {"status": "running", "admitted": True}


# -- of the home -------------------------------------------------------------------------------------------------------


def slots_awaited(fold: Fold, body: SlotsAwaited) -> None:
    number = _number(fold)
    for need in body.needs:
        _put(fold, _limit(fold, need)._replace(spec=need))
    row = LimitTaskRow(body.task, body.needs, number, -1, since_ms=fold.event.recorded_at_ms)
    _line_up(fold, row, body.waits_for)


def slots_moved(fold: Fold, body: SlotsMoved) -> None:
    row = _task(fold, body.task)
    limit = _step_out(fold, row)
    if limit.spec.debounce_ms:
        # It has waited for that, once and for all.
        _put(fold, limit._replace(due_ms=0, first_ms=0))
        needs = list(row.needs)
        needs[row.waits_for] = needs[row.waits_for]._replace(debounce_ms=0)
        row = row._replace(needs=tuple(needs))
    _line_up(fold, row, body.waits_for)


def slots_granted(fold: Fold, body: SlotsGranted) -> None:
    now = fold.event.recorded_at_ms
    if body.needs:
        row = LimitTaskRow(body.task, body.needs, _number(fold), -1)
    else:
        row = _task(fold, body.task)
        _step_out(fold, row)
    for need in row.needs:
        limit = _limit(fold, need)
        if body.needs:
            limit = limit._replace(spec=need)
        if need.rate:
            fold.state.put(LIMITS, rate_key(_home(fold), need.name, need.key, limit.admitted), RateRow(now))
            past = rate_key(_home(fold), need.name, need.key, max(0, limit.admitted - limit.spec.rate))
            if limit.admitted >= limit.spec.rate:
                fold.state.put(LIMITS, past, None)
            limit = limit._replace(admitted=limit.admitted + 1, last_ms=now)
        if need.concurrency:
            key = holder_key(_home(fold), need.name, need.key, row.number)
            fold.state.put(LIMITS, key, HolderRow(body.task.id))
            limit = limit._replace(held=limit.held + 1)
        _put(fold, limit._replace(due_ms=0, first_ms=0) if need.debounce_ms else limit)
    fold.state.put(LIMITS, task_key(_home(fold), body.task.id), row._replace(waits_for=-1, place=(), since_ms=now))
    _send(fold, body.task, "admit", AdmitTask(body.task))


def slots_released(fold: Fold, body: SlotsReleased) -> None:
    row = _task(fold, body.task)
    fold.state.put(LIMITS, task_key(_home(fold), body.task.id), None)
    if row.waits_for >= 0:
        limit = _step_out(fold, row)
        if not limit.waiting:
            _put(fold, limit._replace(due_ms=0, first_ms=0))
    for need in row.needs if row.holds else ():
        if need.concurrency:
            fold.state.put(LIMITS, holder_key(_home(fold), need.name, need.key, row.number), None)
            limit = _limit(fold, need)
            _put(fold, limit._replace(held=limit.held - 1))


def task_displaced(fold: Fold, body: TaskDisplaced) -> None:
    row: LimitTaskRow | None = fold.state.get(LIMITS, task_key(_home(fold), body.task.id))
    if row is not None:
        if row.waits_for >= 0:
            limit = _step_out(fold, row)
            if limit.spec.name != body.limit and not limit.waiting:
                # Another limit gave it up: nobody takes its place in this one.
                _put(fold, limit._replace(due_ms=0, first_ms=0))
        # A place without a queue: it holds nothing and waits for nothing but its end.
        place = row.place if row.waits_for >= 0 else ()
        row = row._replace(displaced=True, waits_for=-1, place=place)
        fold.state.put(LIMITS, task_key(_home(fold), body.task.id), row)
    _send(fold, body.task, "displace", CancelWorkflow(body.task.run_id), body.why)


def limit_forgotten(fold: Fold, body: LimitForgotten) -> None:
    _forget(fold, body.limit, body.limit_key)


def _home(fold: Fold) -> str:
    return fold.event.workflow_id


def _task(fold: Fold, task: LimitedTask) -> LimitTaskRow:
    row: LimitTaskRow = fold.state.get(LIMITS, task_key(_home(fold), task.id))
    return row


def _number(fold: Fold) -> int:
    row: LimitHomeRow = fold.state.get(LIMITS, home_key(_home(fold))) or LimitHomeRow()
    fold.state.put(LIMITS, home_key(_home(fold)), LimitHomeRow(row.asked + 1))
    return row.asked + 1


def _limit(fold: Fold, need: LimitNeed) -> LimitRow:
    row: LimitRow | None = fold.state.get(LIMITS, limit_key(_home(fold), need.name, need.key))
    return row or LimitRow(need)


def _line_up(fold: Fold, row: LimitTaskRow, waits_for: int) -> None:
    """A place in the queue: by priority, then by turn (of fairness keys that take turns), then by number."""
    need, now = row.needs[waits_for], fold.event.recorded_at_ms
    limit = _limit(fold, need)
    turn = 0
    if need.strategy == "round_robin":
        mine = turn_key(_home(fold), need.name, need.key, need.fairness)
        before: TurnRow | None = fold.state.get(LIMITS, mine)
        turn = max(limit.turn, before.turn if before is not None else 0)
        fold.state.put(LIMITS, mine, TurnRow(turn + 1))
    place = (HIGHEST_PRIORITY - need.priority, turn, row.number)
    fold.state.put(LIMITS, queue_key(_home(fold), need.name, need.key, place), WaiterRow(row.task.id))
    if need.debounce_ms:
        first = limit.first_ms or now
        latest = first + need.debounce_max_ms if need.debounce_max_ms else 1 << 62
        limit = limit._replace(first_ms=first, due_ms=min(now + need.debounce_ms, latest))
    row = row._replace(waits_for=waits_for, place=place)
    fold.state.put(LIMITS, task_key(_home(fold), row.task.id), row)
    _put(fold, limit._replace(waiting=limit.waiting + 1))


def _step_out(fold: Fold, row: LimitTaskRow) -> LimitRow:
    """Out of the queue; the round of fairness keys goes on from there."""
    need = row.needs[row.waits_for]
    fold.state.put(LIMITS, queue_key(_home(fold), need.name, need.key, row.place), None)
    limit = _limit(fold, need)
    limit = limit._replace(waiting=limit.waiting - 1, turn=max(limit.turn, row.place[1]))
    _put(fold, limit)
    return limit


def _put(fold: Fold, row: LimitRow) -> None:
    """The limit as it is now; its timer is set for when time itself makes room, or lets it be forgotten."""
    spec, home = row.spec, _home(fold)
    name = f"{spec.name}|{spec.key}"
    if not row.held and not row.waiting and not row.admitted and row.first_ms == 0:
        _forget(fold, spec.name, spec.key)
        return
    fold.state.put(LIMITS, limit_key(home, spec.name, spec.key), row)
    if row.waiting and not (spec.concurrency and row.held >= spec.concurrency):
        free_at = max(row.due_ms, rate_free_at(fold.state.get, home, row))
        fold.set_timer(TIMER, name, free_at or fold.event.recorded_at_ms)
        return
    if not row.waiting and not row.held and row.admitted:
        fold.set_timer(TIMER, name, row.last_ms + max(spec.rate_ms, 1))
        return
    fold.clear_timer(f"{TIMER}|{name}")


def _forget(fold: Fold, name: str, key: str) -> None:
    home = _home(fold)
    fold.clear_timer(f"{TIMER}|{name}|{key}")
    fold.state.put(LIMITS, limit_key(home, name, key), None)
    for prefix in (rate_key(home, name, key), turn_key(home, name, key)):
        for found, _ in list(fold.state.scan(LIMITS, prefix)):
            fold.state.put(LIMITS, found, None)


def _send(fold: Fold, task: LimitedTask, what: str, body: AdmitTask | CancelWorkflow, reason: str = "") -> None:
    command_id = f"{_home(fold)}/{task.id}/{what}"
    fold.send_command(task.workflow_id, body, command_id=command_id, reason=reason)
