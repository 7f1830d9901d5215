"""Three engines killed at random under limits (`tests/faults/flow.py`)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestrator.devkafka import DevKafka
from tests.faults import flow

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.contract("flow-concurrency", "flow-rate")
def test_three_engines_killed_at_random_never_exceed_a_limit_and_leak_no_slot(
    kafka: DevKafka, tmp_path: Path, rng: random.Random, pytestconfig: pytest.Config
) -> None:
    kills = pytestconfig.getoption("--kills")
    assert flow.play(kafka.bootstrap, tmp_path, rng, kills).kills == kills
