"""A few seconds of random delays (`python -m tests.faults.random_hole` goes on for longer)."""

from __future__ import annotations

import pytest

from tests.faults.proxied import Proxied
from tests.faults.random_hole import campaign

pytestmark = pytest.mark.broker


def test_random_delays_cost_the_engine_nothing(stage: Proxied, seed: int) -> None:
    found = campaign(stage, seed, seconds=4.0, chance=0.25, loops=2)
    print(found)
    assert found["sound"], found
    engine, naive = found["engine"], found["naive"]
    assert (engine["lost"], engine["duplicated"], engine["anomalies"]) == (0, 0, [])  # type: ignore[index]
    assert found["delays"], "nothing was delayed"
    assert naive["batches"]  # type: ignore[index]
