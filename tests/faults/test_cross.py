"""A part of the cross of Kafka's APIs and the proxy's faults (`python -m tests.faults.cross` plays all of it)."""

from __future__ import annotations

import random

import pytest

from tests.faults.cross import CODES, FAULTS, PIPELINED, Cell, cells, stand, summary
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
