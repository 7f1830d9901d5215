"""Random histories: 2,000 by default, more with `--histories N`; a failure names the command that repeats it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest

from orchestrator.core import commands as c, events as e
from orchestrator.core.decide import turn as decide_turn
from orchestrator.core.events import Record
from orchestrator.engine import loop
from orchestrator.sdk.messages import Mailbox
from tests.property.campaign import make_case, run_case, run_many, shrink
from tests.property.checks import Wrong
from tests.property.programs import Failing, Node, Racy, denote, smaller, walk

pytestmark = pytest.mark.slow

PARTS = 4
ENOUGH = 2_000
"""Histories within which a planted defect must be found."""


@pytest.mark.contract("update")
@pytest.mark.parametrize("part", range(PARTS))
def test_every_history_is_what_its_program_means(seed: int, part: int, pytestconfig: pytest.Config) -> None:
    """Every fold, every replay, both models, every law of the log, whatever dies and in whatever order things come."""
    wanted = pytestconfig.getoption("--histories") // PARTS
    found = run_many(seed, wanted, part, PARTS)
    print(found)
    assert found.histories >= wanted
    assert found.prefixes > found.histories
    assert found.exact
    assert found.deaths
    assert found.updates


# -- a defect that is planted is found --------------------------------------------------------------------------------


@contextmanager
def cancels_what_has_fired() -> Iterator[None]:
    """A timer that fired in the batch in which it is cancelled ends twice."""
    planted = {c.CancelTimer: lambda view, place, command: [e.TimerCancelled(place.turn, command.timer)]}
    with mock.patch.dict(decide_turn.DECIDE_TURN, planted):  # type: ignore[arg-type]
        yield


@contextmanager
def cancels_no_step() -> Iterator[None]:
    """A step that is cancelled runs on."""
    with mock.patch.dict(decide_turn.DECIDE_TURN, {c.CancelStep: lambda *_: []}):  # type: ignore[arg-type]
        yield


@contextmanager
def answers_no_update() -> Iterator[None]:
    """What an update's handler came to is not recorded."""
    with mock.patch.dict(decide_turn.DECIDE_TURN, {c.CompleteUpdate: lambda *_: []}):  # type: ignore[arg-type]
        yield


@contextmanager
def takes_the_last_signal_first() -> Iterator[None]:
    """Signals that were kept are handed out in the wrong order, the same wrong one in every replay."""

    def put(self: Mailbox, name: str, payload: Any) -> None:
        waiters = [one for one in self.waiters.get(name, []) if not one.done()]
        if waiters:
            waiters[-1].set_result(payload)
        else:
            self.values.setdefault(name, []).insert(0, payload)

    with mock.patch.object(Mailbox, "put", put):
        yield


@contextmanager
def writes_another_footer() -> Iterator[None]:
    """The live state is not what the log says: the owner applies another time than its footer has."""
    apply_footer = loop.machine.apply_footer

    def planted(view: Any, record: Record, *rest: Any) -> None:
        body = record.event.body._replace(now_ms=1)  # type: ignore[union-attr, call-arg]
        apply_footer(view, record._replace(event=record.event._replace(body=body)), *rest)

    with mock.patch.object(loop, "machine", mock.Mock(wraps=loop.machine, apply_footer=planted)):
        yield


PLANTED = [
    cancels_what_has_fired,
    cancels_no_step,
    answers_no_update,
    takes_the_last_signal_first,
    writes_another_footer,
]


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_defect_is_found(planted: Any) -> None:
    with planted(), pytest.raises((Wrong, AssertionError)):
        run_many(1, ENOUGH)


def test_a_failure_shrinks_to_a_case_that_still_fails() -> None:
    with cancels_no_step():
        case = next(one for one in (make_case(1, number) for number in range(ENOUGH)) if _fails(one))
        smallest, error = shrink(case, 200)
        assert isinstance(error, Wrong)
        assert _size(smallest.programs) < _size(case.programs)
        assert _fails(smallest)
    assert not _fails(smallest)


def _fails(case: Any) -> bool:
    try:
        run_case(case)
    except Wrong:
        return True
    return False


def _size(programs: list[Node]) -> int:
    return sum(1 for program in programs for _ in walk(program))


# -- the model --------------------------------------------------------------------------------------------------------

GOOD: Node = ["step", 1, 2, "ok", "try"]
BAD: Node = ["step", 2, 0, "broken", "try"]


def test_the_meaning_of_a_program() -> None:
    assert denote(["seq", [GOOD, ["sleep", 5], ["loop", 2, GOOD]]]) == (
        ["1", "slept", ["1#0", "1#1"]],
        Counter(["1", "1#0", "1#1"]),
    )
    assert denote(["gather", [GOOD, BAD]]) == (["1", "failed"], Counter(["1"]))
    assert denote(["catch", ["finally", BAD, GOOD]]) == ("caught", Counter(["1!"]))
    assert denote(["child", 7, GOOD]) == ("1/7", Counter(["1/7"]))
    with pytest.raises(Failing) as failing:
        denote(["seq", [GOOD, BAD, GOOD]])
    assert failing.value.steps == Counter(["1"])
    for racy in (["first", [GOOD, GOOD]], ["all", [GOOD, BAD]], ["wait_for", 5, GOOD]):
        with pytest.raises(Racy):
            denote(racy)


def test_smaller_programs_are_smaller_and_come_to_an_end() -> None:
    for number in range(20):
        for program in make_case(1, number).programs:
            size = len(str(program))
            assert all(len(str(less)) < size for less in smaller(program))
