"""A run begins once: what would begin it again is refused when it is folded, and an open run is never purged."""

from __future__ import annotations

import pytest

from orchestrator.core import commands as c, events as e, machine
from orchestrator.core.apply.fold import Settings
from orchestrator.core.decide.decision import Context
from orchestrator.core.rows import RUNS, run_key
from orchestrator.core.values import Payload
from orchestrator.errors import LogGap
from tests.core.test_flow import State

STARTED = e.RunStarted("t", 1, Payload(), "seed")


def _fold(state: State, seq: int, body: e.Body) -> None:
    head = b"" if seq == 1 else state.get(RUNS, run_key("w", "r")).head_hash
    event = e.Event("w", "r", seq, body, prev_hash=head)
    machine.apply(state, e.Record(event, b"", b"", b"%d" % seq), Settings("app"))


def test_a_run_that_has_closed_is_not_begun_again() -> None:
    state = State()
    _fold(state, 1, STARTED)
    _fold(state, 2, e.RunCompleted(1, Payload()))
    closed = state.get(RUNS, run_key("w", "r"))
    for seq in (1, 3):
        with pytest.raises(LogGap, match=f"w/r seq {seq}.*begun before and is completed"):
            _fold(state, seq, STARTED)
    assert state.get(RUNS, run_key("w", "r")) == closed


def test_a_run_begins_with_its_first_event() -> None:
    state = State()
    with pytest.raises(LogGap, match="begins with seq 1"):
        machine.apply(state, e.Record(e.Event("w", "r", 2, STARTED), b"", b"", b""), Settings("app"))
    assert state.get(RUNS, run_key("w", "r")) is None


def test_only_a_closed_run_is_purged() -> None:
    state = State()
    context = Context("app", 0, lambda name, version: None)
    purge = c.FireTimer("r", "purge", "", 0)
    assert machine.fire(state, "w", purge, context) == []
    _fold(state, 1, STARTED)
    assert machine.fire(state, "w", purge, context) == []
    _fold(state, 2, e.RunCompleted(1, Payload()))
    [purged] = machine.fire(state, "w", purge, context)
    assert purged.body == e.RunPurged()
