"""Which rights of the manual's table are needed: each is taken away alone, and something must fail.

Ten minutes; not collected by itself: pytest -s tests/log/needed_rights.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from orchestrator.errors import OrchestratorError

from .guarded import rights
from .guarded_use import As, tended, used


@pytest.mark.broker
@pytest.mark.timeout(3_000)
def test_each_right_of_the_manual_is_needed(as_: As, tmp_path: Path) -> None:
    idle = []
    for number, (who, right) in enumerate((who, right) for who, own in rights(own=True).items() for right in own):
        place = tmp_path / str(number)
        place.mkdir()
        each = As(as_.guarded, f"{as_.name}-{number}", as_.monkeypatch, as_.capfd, place / "state")
        as_.guarded.allow(each.name, without=(who, right))
        try:
            tended(each, used(each, place))
        except (AssertionError, OrchestratorError, KafkaException) as error:
            with as_.capfd.disabled():
                print(f"{who}: {right.operation} {right.name}: {' '.join(str(error).split())[:400]}", flush=True)
        else:
            idle.append(f"{who}: {right.operation} on {right.kind} {right.name}")
    assert not idle, f"nothing fails without: {idle}"
