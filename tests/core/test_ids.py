"""Ids of the commands that engines send are known by their form."""

from __future__ import annotations

import uuid

import pytest

from orchestrator.core import ids
from orchestrator.core.limit_rows import PREFIX as LIMITS
from orchestrator.core.schedules import PREFIX as SCHEDULE
from orchestrator.core.waits import PREFIX as EVENT


@pytest.mark.parametrize(
    "sent",
    [
        ids.sent_command_id("order/7", "r", 4, 0),
        ids.sent_command_id("order/7", "a command\n of mine/1/2", 12, 3),
        ids.within_bounds("x" * (ids.MAX_COMMAND_ID + 1)),
        *(f"{prefix}x/1" for prefix in (SCHEDULE, EVENT, LIMITS)),
    ],
)
def test_what_an_engine_sends(sent: str) -> None:
    assert ids.looks_sent(sent)


@pytest.mark.parametrize("mine", ["", "invoice-7", "order/7", "order/7/", "0f" * 16, str(uuid.UUID(int=7))])
def test_what_callers_send(mine: str) -> None:
    assert not ids.looks_sent(mine)
