"""Fields of commands that anybody may send: what a row or a timer could not hold is refused before it is recorded."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from ..commands import StartWorkflow
from ..limit_rows import HIGHEST_PRIORITY
from ..values import LimitNeed, Payload, StepOptions

MOST_MS = 1 << 60
"""Durations up to here, some of them added to the clock, still are numbers of 64 bits. 36 million years."""

STRATEGIES = ("queue", "cancel_oldest", "cancel_newest", "round_robin")
MOST_NEEDS = 100


def unwritable(value: tuple[Any, ...]) -> str:
    """Why a value of workflow code with a field of it, at any depth, cannot stand on the log; "" if it can."""
    for part in value:
        if isinstance(part, str):
            # A lone surrogate: half of a character, as in "\ud800".
            if not part.isascii() and part.encode(errors="replace").decode() != part:
                return f"{part[:100]!a} is no text that can be written: it holds a lone surrogate"
        elif isinstance(part, int):
            if not -(1 << 63) <= part < 1 << 63:
                return f"{part:.3e} is no number of 64 bits"
        elif isinstance(part, StepOptions):
            if problem := _unwritable_options(part):
                return problem
        elif isinstance(part, tuple) and (problem := unwritable(part)):
            return problem
    return ""


_unwritable_options = lru_cache(maxsize=1_024)(unwritable)
"""Thousands of steps have the same: a turn that schedules them all asks once."""


def bad_duration(name: str, ms: int) -> str:
    """What is wrong with a duration in milliseconds; "" if nothing is."""
    return "" if 0 <= ms <= MOST_MS else f"{name} is {ms}: 0 (none) to {MOST_MS} milliseconds"


def bad_start(body: StartWorkflow) -> str:
    """What is wrong with the fields of a start; "" if nothing is."""
    for name in ("start_delay_ms", "execution_timeout_ms", "run_timeout_ms"):
        if problem := bad_duration(name, getattr(body, name)):
            return problem
    if abs(body.priority) > HIGHEST_PRIORITY:
        return f"priority is {body.priority}: -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}"
    for one in body.attributes:
        if not _is_json(one.value.encode()):
            return f"attribute {one.name!r}: {one.value[:100]!r} is no JSON"
    memo = body.memo
    if memo.blob is None and not _is_json(memo.data):
        return f"the memo is no JSON: {memo.data[:100]!r}"
    return ""


def _is_json(data: bytes) -> bool:
    if data == Payload().data:
        return True
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def bad_needs(needs: tuple[LimitNeed, ...]) -> str:
    """What is wrong with the limits that a task names; "" if nothing is."""
    if not 0 < len(needs) <= MOST_NEEDS:
        return f"a task that asks names 1 to {MOST_NEEDS} limits, not {len(needs)}"
    if len({(need.name, need.key) for need in needs}) < len(needs):
        return "a task that asks names each limit once"
    for need in needs:
        numbers = (need.concurrency, need.rate, need.rate_ms, need.debounce_ms, need.debounce_max_ms)
        if not all(0 <= number <= MOST_MS for number in numbers):
            return f"limit {need.name!r}: its numbers are 0 to {MOST_MS}, not {numbers}"
        if need.strategy not in STRATEGIES:
            return f"limit {need.name!r}: strategy {need.strategy!r} is none of {', '.join(STRATEGIES)}"
        if abs(need.priority) > HIGHEST_PRIORITY:
            return f"limit {need.name!r}: priority {need.priority} is beyond {HIGHEST_PRIORITY}"
    return ""
