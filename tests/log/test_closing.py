"""Clients are closed side by side; who waits for a broker that is gone is left behind, and named."""

from __future__ import annotations

import logging
import threading

import pytest

from orchestrator.ending import END_S
from orchestrator.engine import run
from orchestrator.log import closing
from orchestrator.log.closing import close_all
from orchestrator.telemetry.export import FLUSH_MS
from orchestrator.worker.options import WorkerOptions


def test_what_is_late_is_named_and_the_others_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []
    never, both = threading.Event(), threading.Barrier(2)

    def close(name: str) -> None:
        both.wait()
        closed.append(name)

    with caplog.at_level(logging.WARNING):
        # One after the other these would never get past the barrier.
        assert close_all({"inputs": lambda: close("inputs"), "tail": lambda: close("tail")}, 3_600.0)
        assert not close_all({"gone": never.wait, "group": lambda: closed.append("group")}, 0.2)
    never.set()
    assert sorted(closed) == ["group", "inputs", "tail"]
    assert [record.getMessage() for record in caplog.records] == [
        "not closed within 0.2 s, left to the end of the process: gone"
    ]


def test_the_waits_of_an_end_add_up_to_less_than_its_limit() -> None:
    """Beyond the grace time: every wait of it is bounded, so that the limit is for what nobody thought of."""
    telemetry_s = 2 * FLUSH_MS / 1000
    clients_s = closing.FLUSH_S + closing.CLOSE_S
    assert closing.LEAVE_S + run.BESIDE_S + clients_s + telemetry_s <= END_S
    assert WorkerOptions("worker").report_s + clients_s + telemetry_s <= END_S
    assert run.RELEASE_S <= END_S
