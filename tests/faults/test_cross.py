"""A part of the cross of Kafka's APIs and the proxy's faults (`python -m tests.faults.cross` plays all of it)."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.cross import CODES, FAULTS, PIPELINED, Cell, cells, kept, stand, summary, table
from tests.faults.kafka_proxy import APIS
from tests.faults.proxied import Proxied

SOON_S = 0.2
STANDS = {
    "static": [
        Cell("Produce", "error", code=6),
        Cell("Produce", "disconnect"),
        Cell("Produce", "cut_answer"),
        Cell("AddPartitionsToTxn", "error", code=51),
        Cell("AddPartitionsToTxn", "cut_answer"),
        Cell("EndTxn", "error", code=16),
        Cell("EndTxn", "error", code=47),
        Cell("EndTxn", "disconnect"),
        Cell("EndTxn", "cut_answer"),
        Cell("EndTxn", "delay_answer", delay_s=SOON_S),
        Cell("Fetch", "error", code=6),
        Cell("Fetch", "disconnect"),
        Cell("FindCoordinator", "error", code=15),
        Cell("OffsetFetch", "disconnect"),
        Cell("OffsetFetch", "error", code=16),
        Cell("InitProducerId", "cut_answer"),
    ],
    "group": [Cell("ConsumerGroupHeartbeat", "error", code=14)],
}


@pytest.mark.broker
@pytest.mark.parametrize("members", STANDS)
def test_the_engine_goes_on_after_each_fault_and_loses_nothing(members: str, stage: Proxied) -> None:
    found = stand(stage, STANDS[members])
    assert [cell for cell in found if not cell.sound] == []


def test_the_cross_has_every_api_and_every_fault() -> None:
    found = cells(APIS, FAULTS, random.Random(1))
    expected = {(api, fault) for api in APIS for fault in FAULTS if fault != "reorder" or api in PIPELINED}
    assert {(cell.api, cell.fault) for cell in found} == expected
    assert len(found) == len(expected) == 155
    assert CODES.keys() == APIS.keys()


def test_a_fault_that_never_fired_fails_the_campaign() -> None:
    fired, silent = Cell("EndTxn", "drop", fired=1), Cell("EndTxn", "delay")
    assert summary(1, [fired])["sound"] is True
    assert summary(1, [fired, silent])["failed"] == ["EndTxn delay"]
    assert summary(1, [])["sound"] is False


def test_the_table_says_what_was_played_and_what_cannot_be(tmp_path: Path) -> None:
    played = [Cell("EndTxn", "drop", fired=1), Cell("EndTxn", "late"), Cell("Produce", "error", fired=1, lost=1)]
    path = tmp_path / "cells"
    path.write_text("".join(f"{json.dumps(asdict(cell))}\n" for cell in played), encoding="utf-8")
    assert kept(path) == played
    rows = {row.split(" | ")[0].strip("| "): row for row in table(played).splitlines()}
    assert rows["EndTxn"].count("not played") == len(FAULTS) - 3
    for word in ("clean", "never fired", "none"):
        assert rows["EndTxn"].count(f"| {word} |") == 1
    assert "**wrong**" in rows["Produce"]
    assert set(APIS) < set(rows)
