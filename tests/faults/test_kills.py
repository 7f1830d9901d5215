"""100 SIGKILLs of the engine under load: nothing is lost, nothing happens twice, everything finishes."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.devkafka import DevKafka
from tests.faults.campaign import Campaign, Found, Kill, Site
from tests.faults.hits import different

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(1_500)]

HELD = {"K7", "gate"}
"""The broker has the events of an open transaction, whose commit is not sent."""
INSIDE = HELD | {"K8"}
OF_STEPS = {"K4", "K5"}
"""Reached where the step runs: it is the engine's process only in threads."""
BEFORE_STORE = {"K9", "K11", "K12"}
"""The commit returned, RocksDB does not have the batch."""

STATIC = {
    "K7": 13, "K8": 4, "gate": 9, "K9": 3, "K11": 3, "K12": 4, "K0": 2, "K1": 2, "K2": 1, "K3": 1, "K4": 2, "K5": 2,
    "K6": 2, "K10": 3, "K13": 3, "K14": 2, "K16": 3, "K19": 3, "K21": 2, "K22": 3, "K23": 3, "K24": 2, "K25": 3,
    "K15": 2, "": 3,
}  # fmt: skip
GROUP = {"K7": 3, "K8": 1, "gate": 1, "K9": 1, "K12": 1, "K18": 1, "": 2}
HITS = {
    "K18": 1, "K24": 1, "K14": 1, "K0": 2, "K4": 20, "K5": 20, "K21": 2, "K22": 2, "K16": 30, "K23": 8, "K25": 2,
    "K19": 3, "K15": 25,
}  # fmt: skip
"""Most hits of a point; 40 where none is given."""
DIFFERENT = 65
"""So many deaths, at least, each met a run that none of the others is counted for."""


def planned(points: dict[str, int], rng: random.Random, processes: int) -> list[Kill]:
    """The kills in a random order; `processes` of them with step processes."""
    names = [point for point, count in points.items() for _ in range(count)]
    rng.shuffle(names)
    kills = []
    for number, point in enumerate(names):
        hit = rng.randint(1, HITS.get(point, 40)) if point else rng.randint(800, 2500)
        apart = number < processes and point not in OF_STEPS
        kills.append(Kill(point, hit, "process" if apart else "thread", point == "K16"))
    rng.shuffle(kills)
    # A restore is worth a kill when there is much to fold: late, with the volume lost.
    return sorted(kills, key=lambda kill: kill.empty)


def campaigns(kafka: DevKafka, directory: Path, seed: int) -> Sequence[Found]:
    """Two campaigns at a time on one broker: static assignment in two halves, then the group protocols."""
    rng = random.Random(seed)
    kills = planned(STATIC, rng, 6)
    plans: list[tuple[str, str, list[Kill]]] = [
        ("static", "consumer", kills[:40]),
        ("static", "consumer", kills[40:]),
        ("group", "classic", planned(GROUP, rng, 1)),
        ("group", "consumer", planned(GROUP, rng, 1)),
    ]

    def run(number: int) -> Found:
        membership, protocol, deaths = plans[number]
        app = f"kills-{uuid.uuid4().hex[:6]}"
        site = Site(kafka.bootstrap, app, directory / app, membership, protocol)
        return Campaign(site, random.Random(f"{seed}/{number}")).run(deaths)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, range(len(plans))))


def test_a_hundred_kills_lose_nothing_and_repeat_nothing(kafka: DevKafka, tmp_path: Path, seed: int) -> None:
    found = campaigns(kafka, tmp_path, seed)
    fired: Counter[str] = sum((one.fired for one in found), Counter())
    for one in found:
        # Shown with -rP, and whenever something is wrong.
        print(one.membership, dict(sorted(one.fired.items())), dict(one.verdict.totals))
        met = [runs for _, runs in one.met]
        print(f"  {one.expected} runs, {one.receipts} effects received, {one.resumed} parked runs resumed by a person")
        print(f"  {sum(map(bool, met))} of {len(met)} deaths met runs at work, {different(met)} a run of their own")
    for one in found:
        assert not one.verdict.anomalies, one.verdict.text()
        assert (one.verdict.lost, one.verdict.duplicated) == (0, 0)
        assert one.verdict.totals["completed"] == one.expected
        assert one.receipts >= one.verdict.totals["step_results"] > 0
        assert not one.open_transactions
        # What was open at a kill inside a transaction lies on the log, and nobody sees it.
        assert one.verdict.totals["aborted_records"] >= sum(one.fired[point] for point in HELD)
    assert sum(fired.values()) == 100, fired
    assert sum(found[0].fired.values()) + sum(found[1].fired.values()) == 80
    assert sum(fired[point] for point in INSIDE) >= 30, fired
    assert sum(fired[point] for point in BEFORE_STORE) >= 10, fired
    # The rest met owners that were claiming or restoring, or had nothing to do.
    assert sum(different([runs for _, runs in one.met]) for one in found) >= DIFFERENT
    assert fired.keys() == STATIC.keys() - {""} | {"K18", "random"}
