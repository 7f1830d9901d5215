"""The claim protocol explored whole: no fork with every part of it, and with a part left out what that part is for."""

from __future__ import annotations

import dataclasses

import pytest

from tests.log.claim_model import FORK, REUSED, Bounds, Rules, Verdict, explore

pytestmark = pytest.mark.slow

WHOLE = Rules()
TWO = ((0, 1), (0, 1))
MIXED = ((0, 1), (0, 1, 2))
ALL_OF_THREE = {frozenset(found) for found in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))}


def without(*parts: str) -> Rules:
    """The whole claim but for these parts."""
    return dataclasses.replace(WHOLE, **dict.fromkeys(parts, False))


def told(verdict: Verdict) -> str:
    """The way to the anomaly, one step a line."""
    return "\n".join(verdict.anomaly.way) if verdict.anomaly else ""


@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param(Bounds(), id="three owners"),
        pytest.param(Bounds(timeouts=1), id="three owners, a time-out", marks=pytest.mark.slow),
        pytest.param(Bounds(failures=1), id="three owners, a commit without an answer", marks=pytest.mark.slow),
        pytest.param(Bounds(crashes=1), id="three owners, a crash anywhere", marks=pytest.mark.slow),
        pytest.param(Bounds(TWO, batches=2, crashes=1), id="two owners, a crash anywhere", marks=pytest.mark.slow),
        pytest.param(Bounds(TWO, claims=2, failures=1), id="two owners that recover", marks=pytest.mark.slow),
        pytest.param(
            Bounds(TWO, claims=2, batches=2, failures=1, timeouts=1), id="all at once", marks=pytest.mark.slow
        ),
        pytest.param(Bounds(MIXED, claims=2, batches=2), id="owners of two and of three lanes", marks=pytest.mark.slow),
    ],
)
def test_the_whole_claim_never_forks(bounds: Bounds) -> None:
    verdict = explore(WHOLE, bounds)
    assert verdict.anomaly is None, told(verdict)
    # Nothing was proven if nobody could get through: every set of owners has a run in which just they committed.
    owners = range(len(bounds.lanes))
    assert verdict.deciders == {found for found in ALL_OF_THREE if found <= frozenset(owners)}


@pytest.mark.parametrize(
    ("part", "bounds", "anomaly"),
    [
        ("claim_record", Bounds(), FORK),
        ("every_lane_first", Bounds(), FORK),
        ("restore_after", Bounds(), FORK),
        ("higher_number", Bounds(), REUSED),
        ("whole_recovery", Bounds(TWO, claims=2, batches=2), FORK),
        ("claim_after_failure", Bounds(TWO, batches=2, failures=1), FORK),
        ("lanes_of_claims", Bounds(MIXED, batches=2), FORK),
        # The last claim found may be one that came to nothing: an older owner's lane is then nobody's care.
        ("lanes_of_every_claim", Bounds(MIXED, claims=2, batches=2), FORK),
    ],
)
def test_without_this_part_it_breaks(part: str, bounds: Bounds, anomaly: str) -> None:
    verdict = explore(without(part), bounds, frozenset({anomaly}))
    assert verdict.anomaly is not None, f"{part} is not needed in {verdict.states} states"


@pytest.mark.parametrize(
    ("part", "bounds"),
    [
        ("one_order", Bounds(TWO)),
        ("through_first", Bounds(TWO)),
        ("known_lanes_only", Bounds(MIXED, batches=2)),
    ],
)
def test_a_second_belt_holds_when_claims_are_not_compared_by_number(part: str, bounds: Bounds) -> None:
    """Each of these is covered by the rule of the higher number, and the other way round; without both it forks."""
    one = frozenset({FORK})
    assert explore(without(part), bounds, one).anomaly is None
    assert explore(without("higher_number"), bounds, one).anomaly is None
    assert explore(without("higher_number", part), bounds, one).anomaly is not None
