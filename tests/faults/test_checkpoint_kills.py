"""SIGKILL while checkpoints are written and while one is restored: nothing is lost, and each restore ends."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from orchestrator.devkafka import DevKafka
from orchestrator.store.checkpoint import Checkpoints
from orchestrator.store.places import DirectoryPlace
from tests.faults.campaign import PARTITIONS, Campaign, Kill, Site

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = [
    Kill("K15", 30),  # within the second checkpoint or the third
    Kill("K15", 5),
    Kill("K16", 4, empty=True),  # within the files of the newest one
    Kill("K16", 12),  # further on, with what was fetched before
    Kill("K15", 1),
    Kill("K16", 60, empty=True),  # behind the files: within the log's tail, or at the next claim
    Kill("K15", 45),
]


def test_kills_at_checkpoints_and_at_restores_lose_nothing(kafka: DevKafka, tmp_path: Path, seed: int) -> None:
    app = f"kept-{uuid.uuid4().hex[:6]}"
    site = Site(kafka.bootstrap, app, tmp_path / app, checkpoints=True)
    found = Campaign(site, random.Random(seed)).run(KILLS)
    print(dict(found.fired), dict(found.verdict.totals))
    assert not found.verdict.anomalies, found.verdict.text()
    assert (found.verdict.lost, found.verdict.duplicated) == (0, 0)
    assert found.verdict.totals["completed"] == found.expected
    assert found.fired == {"K15": 4, "K16": 3}
    said = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / app).glob("engine-*.log"))
    assert said.count(" restored: ") >= 2, "lost directories came back from checkpoints"
    kept = Checkpoints(DirectoryPlace(tmp_path / app / "checkpoints" / app))
    assert kept.partitions() == list(range(PARTITIONS))
    for number in range(PARTITIONS):
        for one in kept.found(number):
            assert one.manifest is not None, one.problem
            kept.verify(one.manifest, set())
