"""A topic of events, decided and folded alone."""

from __future__ import annotations

import pytest

from orchestrator.core import commands as c, machine
from orchestrator.core.apply import topic
from orchestrator.core.apply.fold import Settings
from orchestrator.core.decide.decision import Context, Draft
from orchestrator.core.events import Event, Record
from orchestrator.core.rows import EVENTS, TIMERS
from orchestrator.core.waits import KEPT_MS, PREFIX
from tests.core.test_flow import State


def test_a_topic_that_lost_its_oldest_events_to_their_number_still_forgets_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topic, "KEPT_EVENTS", 3)
    state, folded = State(), 0

    def take(drafts: list[Draft], now: int) -> None:
        nonlocal folded
        for draft in drafts:
            event = Event(draft.workflow_id, draft.run_id, 0, draft.body, draft.cause, now, 1, 1, folded)
            machine.apply(state, Record(event, b"", b"", b""), Settings("app"))
            folded += 1

    def context(now: int) -> Context:
        return Context("app", now, lambda name, version: None)

    for number in range(1, 6):
        command = c.Command(f"c-{number}", f"{PREFIX}payment", c.SendEvent())
        take(machine.decide(state, command, context(number * 1_000)), number * 1_000)
    assert len(list(state.scan(EVENTS, (1,)))) == 3
    spent = set()
    while due := [(key, row) for key, row in state.scan(TIMERS, (1,)) if key not in spent]:
        ((key, row),) = due
        now = int(key[1])
        drafts = machine.fire(state, row.workflow_id, c.FireTimer(row.run_id, row.kind, row.ref, now), context(now))
        # An engine does not fire again what came to nothing.
        spent |= set() if drafts else {key}
        take(drafts, now)
        assert now <= 5_000 + KEPT_MS
    assert list(state.scan(EVENTS, ())) == []
