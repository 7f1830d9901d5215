"""Effects outside under faults, a few of each: with the key passed on applied once, with `fail` and `park` never twice.

`python -m tests.faults.side_effects` plays all faults, hundreds of each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.devkafka import DevKafka
from tests.faults.side_effects import PHASES, POLICIES, Campaign, Ledger, summary

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

EACH = 2
PLAYED = ("engine killed", "worker frozen")


def test_an_effect_outside_is_applied_as_often_as_the_step_says(kafka: DevKafka, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")

    def play(fault: str) -> None:
        campaign = Campaign(kafka.bootstrap, tmp_path, fault)
        try:
            ledger.note(fault, campaign.cycle(EACH), campaign.finish())
        finally:
            campaign.close()

    with ThreadPoolExecutor() as at_once:
        list(at_once.map(play, PLAYED))
    found = summary(ledger)
    print(found["cells"])
    assert found["wrong"] == 0
    assert found["trials"] == len(PLAYED) * len(PHASES) * len(POLICIES) * EACH - found["missed"]
    assert found["missed"] <= EACH, "hardly a fault came in time"
    assert {found["applied_twice"][policy] for policy in ("retry+key", "fail", "park")} == {0}
    assert found["applied_twice"]["retry"], "nothing was ever applied twice: the faults show nothing"
