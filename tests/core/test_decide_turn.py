"""What a turn asks for, decided when more is on the log than its code has heard of."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.codec.records import Codec
from orchestrator.core import commands as c, events as e
from orchestrator.core.decide.turn import TurnPlace, decide_turn
from orchestrator.core.rows import STEPS, TIMERS, ChildRow, TimerDueRow, step_key, timer_due_key
from orchestrator.engine.overlay import Overlay
from orchestrator.store.memory_store import MemoryStore

RUN: Any = None
CONTEXT: Any = None
CHILD = ((STEPS, step_key("w", "r", "0:1")), ChildRow("flow", "w/1", "", "terminate", 2))
TIMER = ((TIMERS, timer_due_key("w", "r", "sleep|0:1")), TimerDueRow(1_000))


@pytest.mark.parametrize(
    ("command", "pending", "event"),
    [
        (c.CancelChild("0:1"), CHILD, e.ChildCancelRequested(7, "0:1")),
        (c.CancelTimer("0:1"), TIMER, e.TimerCancelled(7, "0:1")),
    ],
)
def test_what_is_over_by_then_is_not_cancelled(command: c.TurnCommand, pending: Any, event: e.Body) -> None:
    """A child that ended, or a timer that fired, in the batch of the turn that cancels it."""
    view, place = Overlay(MemoryStore(Codec())), TurnPlace("w", "r", RUN, 7)
    assert decide_turn(view, place, command, CONTEXT) == []
    (family, key), row = pending
    view.put(family, key, row)
    assert [draft.body for draft in decide_turn(view, place, command, CONTEXT)] == [event]
