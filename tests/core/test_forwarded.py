"""A workflow whose command was sent on is remembered; what is remembered is the same live and at a restore."""

from __future__ import annotations

import pytest

from orchestrator.core import events as e, machine
from orchestrator.core.apply.fold import Settings
from orchestrator.core.rows import DEDUP, AskedRow, ExpiryRow, asked_key, expiry_key
from tests.core.test_flow import State

DAYS_MS = 86_400_000
SETTINGS = Settings("app")


def _forwarded(state: State, at_ms: int, asked: int) -> dict[object, object]:
    """What the state remembers of "w" after a command of it was sent on."""
    body = e.CommandForwarded(f"c{asked}", 1, b"w", b"", asked=asked)
    machine.apply(state, e.Record(e.Event("w", "", 0, body, recorded_at_ms=at_ms), b"", b"", b""), SETTINGS)
    return {key: row for key, row in state.rows.items() if key[0] == DEDUP}


def test_it_is_remembered_from_the_first_on() -> None:
    state = State()
    _forwarded(state, 0, 7)
    expires = SETTINGS.dedup_horizon_ms
    assert _forwarded(state, DAYS_MS, 9) == {
        (DEDUP, asked_key("w")): AskedRow(9, expires),
        (DEDUP, expiry_key(expires, "w", "")): ExpiryRow(""),
    }


@pytest.mark.parametrize("late_ms", [0, DAYS_MS])
def test_what_a_footer_is_about_to_forget_counts_as_forgotten(late_ms: int) -> None:
    """An owner applies a footer behind the events of the next batch, a restore before them."""
    owner, restored = State(), State()
    _forwarded(owner, 0, 7)
    again = SETTINGS.dedup_horizon_ms + late_ms
    assert _forwarded(owner, again, 9) == _forwarded(restored, again, 9)
