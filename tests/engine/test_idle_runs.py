"""A run that waits is known to wait: no owner replays it to find out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.engine.turns import Turns
from tests.engine.rig import Rig, kill

Make = Callable[[Orchestrator], Rig]
app = Orchestrator("idle-runs")
go = app.signal("go", int)
RUNS = 40


@app.step
async def double(x: int) -> int:
    return 2 * x


@app.workflow
async def listens(n: int) -> int:
    """Waits for `n` signals; until the last of them its turns issue nothing."""
    total = sum([await go.wait() for _ in range(n)])
    return await double(total)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workflows that were read from their history, in order."""
    found: list[str] = []
    load = Turns._load

    def counted(turns: Turns, view: Any, key: tuple[str, str], run: Any) -> Any:
        found.append(key[0])
        return load(turns, view, key, run)

    monkeypatch.setattr(Turns, "_load", counted)
    return found


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("clean", [True, False], ids=["released", "killed"])
def test_a_claim_replays_no_run_that_waits(rig: Make, loads: list[str], clean: bool) -> None:
    one = rig(app)
    engine = one.engine()
    for number in range(RUNS):
        one.start(f"w{number}", listens, 2)
    for number in range(0, RUNS, 2):
        one.signal(f"w{number}", "go", b"1")
    loads.clear()
    engine.stop() if clean else kill(engine)
    one.engine()
    one.start("new", listens, 1)
    one.signal("new", "go", b"5")
    assert one.result("new") == b"10"
    assert set(loads) == {"new"}
    # What woke them is not lost: the second signal, or both of them, end each.
    for number in range(RUNS):
        for value in (b"1", b"2")[number % 2 == 0 :]:
            one.signal(f"w{number}", "go", value)
        assert one.result(f"w{number}") == b"6"
    assert {body.attempt for body in one.bodies(e.TurnAttempted, "w0")} == ({0} if clean else {0, 1})


def test_what_was_not_delivered_yet_is_delivered_by_the_next_owner(rig: Make, loads: list[str]) -> None:
    """The code is away when the signal comes: nothing may say that it was seen."""
    one = rig(app)
    engine = one.engine()
    one.start("w", listens, 1)
    engine.stop()
    other = one.engine(app=Orchestrator("idle-runs"))
    one.signal("w", "go", b"4")
    other.stop()
    loads.clear()
    one.engine()
    assert one.result("w") == b"8"
    assert loads == ["w"]


def test_a_gather_of_steps_records_nothing_more(rig: Make) -> None:
    one = rig(wide)
    one.engine()
    one.start("w", spread)
    assert one.result("w") == b"20"
    assert one.bodies(e.TurnAttempted) == []


wide = Orchestrator("idle-wide")


@wide.step
async def half(x: int) -> int:
    return x


@wide.workflow
async def spread() -> int:
    import asyncio

    return sum(await asyncio.gather(*(half(2) for _ in range(10))))
