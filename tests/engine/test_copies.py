"""A question to a run that left memory with a long history: it is replayed in pieces, and others go on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.tasks import Reply
from orchestrator.engine import copies
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.turns import Copy
from orchestrator.testing.clock import SkippingClock
from tests.engine.rig import Rig, until

Make = Callable[..., Rig]
STEPS = 30

app = Orchestrator("copies")
go = app.signal("go", int)
at = app.query("at", int)
spoils = app.query("spoils", int)


@app.step
async def one(number: int) -> int:
    return number


@app.workflow
async def long(steps: int, ends: bool) -> int:
    seen: list[int] = []

    def spoil() -> int:
        seen.append(0)
        return len(seen)

    at.answer(lambda: len(seen))
    spoils.answer(spoil)
    for number in range(steps):
        seen.append(await one(number))
    if not ends:
        await go.wait()
    return len(seen)


@app.workflow
async def other() -> int:
    return 1


@pytest.fixture(autouse=True)
def one_turn_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every history is long, and a piece is one turn."""
    monkeypatch.setattr(copies, "REPLAYED", 0)
    monkeypatch.setattr(copies, "REPLAY_S", -1.0)


class Pieces:
    """What a copy was replayed in. `before`: called before each of them, with its number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.before: Callable[[int], bool] = lambda _: True
        go_on = Copy.go_on

        def in_pieces(copy: Copy, *until: Any) -> bool:
            if not until:
                return go_on(copy)
            self.count += 1
            return self.before(self.count) and go_on(copy, *until)

        monkeypatch.setattr(Copy, "go_on", in_pieces)


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Pieces:
    return Pieces(monkeypatch)


def asked(rig: Rig, name: str = "at") -> Reply:
    return rig.ask("w", c.QueryWorkflow("code", name=name))


def without_memory(make: Make, ends: bool, clock: SkippingClock | None = None) -> Rig:
    """A run of so many steps that is not in memory."""
    rig = make(app, 1)
    rig.engine(EngineOptions(cached_runs=0, retention_ms=3_600_000), clock=clock)
    rig.start("w", long, STEPS, ends)
    until(lambda: len(rig.bodies(e.StepCompleted, "w")) == STEPS)
    return rig


@pytest.mark.parametrize("ends", [True, False])
def test_it_is_answered_after_as_many_pieces_as_its_history_has_turns(rig: Make, pieces: Pieces, ends: bool) -> None:
    one_rig = without_memory(rig, ends)
    assert asked(one_rig).result.data == b"%d" % STEPS
    assert pieces.count > STEPS
    if not ends:
        one_rig.signal("w", "go", b"1")
    assert one_rig.result("w") == b"%d" % STEPS


def test_others_go_on_meanwhile(rig: Make, pieces: Pieces) -> None:
    """The rest of the replay waits here until another run, which is started in the middle of it, has ended."""
    one_rig = without_memory(rig, True)

    def other_is_over(number: int) -> bool:
        if number == 3:
            one_rig.send("other", c.StartWorkflow(other.code.workflow_type, other.code.signature.bind((), {})))
        return number < 3 or "RunCompleted" in one_rig.kinds("other")

    pieces.before = other_is_over
    assert asked(one_rig).result.data == b"%d" % STEPS


def test_who_asks_again_while_it_is_replayed_gets_one_answer(rig: Make, pieces: Pieces) -> None:
    one_rig = without_memory(rig, True)
    pieces.before = lambda number: number < 3 or sent
    sent = False
    question = c.QueryWorkflow("code", name="at")
    one_rig.send("w", question, "q")
    until(lambda: pieces.count > 3)
    one_rig.send("w", question, "q")
    assert one_rig.ask("other", c.SignalWorkflow("go")).outcome == "rejected"
    sent = True
    assert one_rig.answers("q")[0].result.data == b"%d" % STEPS
    assert one_rig.ask("other", c.SignalWorkflow("go")).outcome == "rejected"
    assert len(one_rig.answers("q", 2, 0.1)) == 1


def test_a_question_that_changes_the_copy_leaves_the_next_one_another(rig: Make, pieces: Pieces) -> None:
    one_rig = without_memory(rig, True)
    pieces.before = lambda number: number < 3 or sent
    sent = False
    first = one_rig.send("w", c.QueryWorkflow("code", name="spoils"))
    second = one_rig.send("w", c.QueryWorkflow("code", name="at"))
    assert one_rig.ask("other", c.SignalWorkflow("go")).outcome == "rejected"
    sent = True
    assert one_rig.answers(first)[0].code == "query_failed"
    assert one_rig.answers(second)[0].result.data == b"%d" % STEPS


def test_a_run_that_is_purged_meanwhile_is_not_there(rig: Make, pieces: Pieces) -> None:
    clock = SkippingClock()
    one_rig = without_memory(rig, True, clock)
    pieces.before = lambda number: number < 3
    question = one_rig.send("w", c.QueryWorkflow("code", name="at"))
    until(lambda: pieces.count > 3)
    clock.skip(3_601)
    said = one_rig.answers(question)[0]
    assert (said.outcome, said.code) == ("rejected", "not_found")


def test_a_replay_that_fails_is_the_affair_of_who_asks_alone(rig: Make, pieces: Pieces) -> None:
    one_rig = without_memory(rig, True)

    def fails(number: int) -> bool:
        if number > 2:
            raise ZeroDivisionError("no such luck")
        return True

    pieces.before = fails
    said = asked(one_rig)
    assert (said.code, said.message) == ("query_failed", "ZeroDivisionError: no such luck")
    pieces.before = lambda _: True
    assert asked(one_rig).result.data == b"%d" % STEPS
