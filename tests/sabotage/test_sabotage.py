"""Without one of its safeguards the engine does wrong, and the oracle says what; with it the same acts are clean."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.engine import sabotage
from tests.oracle import verdict as v

from .scenarios import SCENARIOS
from .stage import Stage

pytestmark = pytest.mark.slow


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    try:
        yield made
    finally:
        made.close()
        sabotage.install()


def test_every_switch_has_a_scenario() -> None:
    assert SCENARIOS.keys() == sabotage.SWITCHES.keys()


@pytest.mark.parametrize("switch", SCENARIOS)
def test_the_oracle_names_what_goes_wrong_without_the_safeguard(switch: str, stage: Stage) -> None:
    scenario, anomaly = SCENARIOS[switch]
    sabotage.install(switch)
    verdict = scenario(stage)
    assert anomaly in verdict.names, verdict.text()


@pytest.mark.parametrize("switch", SCENARIOS)
def test_the_same_acts_are_clean_with_the_safeguard(switch: str, stage: Stage) -> None:
    scenario, _ = SCENARIOS[switch]
    verdict = scenario(stage)
    assert not verdict.anomalies, verdict.text()
    assert verdict.totals["batches"], "nothing happened: the scenario shows nothing"


def test_state_that_ran_ahead_is_told_by_its_rows_too(stage: Stage) -> None:
    sabotage.install("store_before_commit")
    assert v.DIVERGED in SCENARIOS["store_before_commit"][0](stage).names
