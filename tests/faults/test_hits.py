"""How a campaign's report knows that its deaths met different runs."""

from __future__ import annotations

import pytest

from orchestrator.codec.records import Codec
from orchestrator.core import events as e
from orchestrator.core.values import Payload
from tests.faults.hits import different, runs_met
from tests.oracle.raw import RawRecord

CODEC = Codec()
CLAIM = e.PartitionClaimed("n", "i", "h", 0, "e", (), "exclusive", 1, "c", "e", 1, 0)


def raw(event: e.Event) -> RawRecord:
    record = CODEC.seal(event)
    return RawRecord("t", 0, 0, 0, record.key, record.value)


def claim(number: int, pid: int) -> RawRecord:
    return raw(e.Event("", "", 0, CLAIM._replace(pid=pid), claim_no=number))


def started(workflow: str, claim_no: int, batch_no: int) -> RawRecord:
    body = e.SignalReceived("go", Payload())
    return raw(e.Event(workflow, "r", 1, body, claim_no=claim_no, batch_no=batch_no))


def test_the_last_batch_of_each_process_counts() -> None:
    first = [claim(1, 7), started("a", 1, 1), started("b", 1, 2), started("c", 1, 2), claim(2, 8)]
    other = [claim(1, 8), started("d", 1, 1), claim(2, 7), started("e", 2, 1)]
    met = runs_met({0: first, 1: other}, CODEC, [7, 8, 9])
    assert met == {7: {("b", "r"), ("c", "r"), ("e", "r")}, 8: {("d", "r")}, 9: set()}


@pytest.mark.parametrize(
    ("met", "count"),
    [
        ([], 0),
        (["", ""], 0),
        (["a", "a", "a"], 1),
        (["ab", "a"], 2),
        (["ab", "ab", "ab"], 2),
        (["ab", "a", "bc", ""], 3),
    ],
)
def test_each_death_is_given_a_run_of_its_own(met: list[str], count: int) -> None:
    assert different([{(name, "r") for name in names} for names in met]) == count
