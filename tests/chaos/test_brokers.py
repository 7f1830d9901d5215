"""Three brokers: one that leads is killed under load, and nothing is lost. Two engines with one id: one is fenced."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.devkafka import DevKafka
from tests.chaos import brokers, engines
from tests.chaos.cluster import java_hash
from tests.chaos.plugs import Seat
from tests.chaos.tally import Tally

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_the_leader_of_events_is_killed_under_load(tmp_path: Path, seed: int) -> None:
    tally = Tally()
    brokers.play(Seat(seed, tmp_path, ""), tally, [brokers.Stage.leader], 3)
    print(tally)
    assert tally.faults["leader of events killed"] == 1
    assert tally.runs >= 12
    assert not tally.anomalies, tally.anomalies


def test_of_two_processes_with_one_id_one_is_fenced_and_nothing_is_lost(
    kafka: DevKafka, tmp_path: Path, seed: int
) -> None:
    tally = Tally()
    engines.twins(Seat(seed, tmp_path, kafka.bootstrap, 0.1), tally)
    print(tally)
    assert tally.faults == {"two engines with one id": 1, "id taken by a bare producer": 2}
    assert not tally.anomalies, tally.anomalies


@pytest.mark.parametrize(("text", "found"), [("", 0), ("a", 97), ("hello", 99162322), ("polygenelubricants", 1 << 31)])
def test_names_are_hashed_as_java_does(text: str, found: int) -> None:
    assert java_hash(text) == found
