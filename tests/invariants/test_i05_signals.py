"""I5: an acknowledged signal is delivered exactly once, the order of each sender is kept."""

from __future__ import annotations

import json

import pytest

from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from tests.invariants.load import Load

SIGNALS = 30


@pytest.mark.contract("signal-durable", "signal-order", "signal-once")
def test_i5_acknowledged_signals_are_delivered_once_in_their_order(load: Load) -> None:
    load.fail_commits(seed=5)
    engine = load.engine()
    load.start("w", load.collects, SIGNALS)
    # One sender does not wait for answers and sends each twice; some arrive while another owner takes over.
    for value in range(SIGNALS):
        for _ in range(2):
            load.send("w", c.SignalWorkflow("go", Payload(data=b"%d" % value)), f"signal-{value}")
        if value == SIGNALS // 2:
            engine = load.take_over(engine)
    assert json.loads(load.result("w")) == list(range(SIGNALS))
    for value in range(SIGNALS):
        assert load.answers(f"signal-{value}")[0].outcome == "accepted"
    load.heal()
    engine.stop(1.0)
    received = [event.cause.command_id for event in load.events("w") if isinstance(event.body, e.SignalReceived)]
    assert received == [f"signal-{value}" for value in range(SIGNALS)]


@pytest.mark.contract("signal-kept")
def test_i5_a_signal_before_the_handler_waits_for_it(load: Load) -> None:
    load.engine()
    load.start("w", load.work, 2)
    load.signal("w", "go", b"9")
    load.signal("w", "go", b"4")
    assert load.result("w") == b"11"
