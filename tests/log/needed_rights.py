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

AT_TIMES = {
    ("topics init", "AlterConfigs", "<app>.engine"): "it warns, and goes on; here the broker's own time-outs are ours",
    ("topics check", "Read", "commands"): "it is for a transaction that is open at that moment",
    ("topics check", "Read", "events"): "it is for a transaction that is open at that moment",
    ("topics check", "DescribeConfigs", "<app>.engine"): "who may alter them may see them",
    ("topics check", "AlterConfigs", "<app>.engine"): "it is to say why brokers refuse a time-out",
}
"""What nothing here fails without, and what it is for."""


@pytest.mark.broker
@pytest.mark.timeout(3_000)
def test_each_right_of_the_manual_is_needed(as_: As, tmp_path: Path) -> None:
    idle = set()
    for number, (who, right) in enumerate((who, right) for who, own in rights(own=True).items() for right in own):
        place = tmp_path / str(number)
        place.mkdir()
        each = As(as_.guarded, f"{as_.name}-{number}", as_.monkeypatch, as_.capfd, place / "state")
        if right.kind == "cluster":
            # Every application's rows have it.
            as_.guarded.take(as_.name, who, right)
        as_.guarded.allow(each.name, without=(who, right))
        try:
            tended(each, used(each, place))
        except (AssertionError, OrchestratorError, KafkaException) as error:
            with as_.capfd.disabled():
                print(f"{who}: {right.operation} {right.name}: {' '.join(str(error).split())[:400]}", flush=True)
        else:
            idle.add((who, right.operation, right.name))
    assert idle == AT_TIMES.keys()
