"""Members come and go while one stays: nothing is lost, nothing happens twice, everything finishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.devkafka import DevKafka
from tests.faults.storm import PROTOCOLS, WAYS, play

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(400)]


def test_members_that_come_and_go_cost_nothing(kafka: DevKafka, tmp_path: Path, seed: int) -> None:
    """By one protocol a run; `python -m tests.faults.storm` plays both, for as long as is wanted."""
    protocol = PROTOCOLS[seed % len(PROTOCOLS)]
    found, left, claims = play(kafka.bootstrap, tmp_path, seed, protocol, len(WAYS))
    assert not found.verdict.anomalies, found.verdict.text()
    assert (found.verdict.lost, found.verdict.duplicated) == (0, 0)
    assert found.verdict.totals["completed"] == found.expected
    assert not found.open_transactions
    assert set(left) == set(WAYS)
    assert claims >= len(WAYS), "members came, and no partition moved"
