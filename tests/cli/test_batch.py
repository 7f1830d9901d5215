"""`orchestrator batch`: shown first, done with --yes, once, with an exit code for what was refused."""

from __future__ import annotations

from collections.abc import Callable

from tests.cli.conftest import Ran
from tests.client.fake_engine import FakeEngine

Run = Callable[..., Ran]


def three(run: Run) -> None:
    for number in range(3):
        assert run("workflow", "start", "order", "--id", f"order-{number}").code == 0


def test_a_dry_run_shows_and_does_nothing(engine: FakeEngine, run: Run) -> None:
    three(run)
    ran = run("batch", "terminate", "-o", "json")
    assert ran.code == 0
    assert [row["workflow_id"] for row in sorted(ran.json, key=lambda row: row["workflow_id"])] == [
        "order-0", "order-1", "order-2",
    ]  # fmt: skip
    assert "3 runs would be asked; --yes does it" in ran.err
    assert {one.status for one in engine.runs_of_all()} == {"running"}


def test_a_batch_is_done_once_under_its_id(engine: FakeEngine, run: Run) -> None:
    three(run)
    first = run("batch", "signal", "go", "7", "--yes", "--batch", "b1", "--reason", "Monday", "-o", "json")
    assert (first.code, first.json) == (0, {"batch_id": "b1", "done": 3, "refused": 0, "unknown": 0, "others": []})
    assert run("batch", "signal", "go", "7", "--yes", "--batch", "b1").code == 0
    assert [len(one.signals) for one in engine.runs_of_all()] == [1, 1, 1]
    assert engine.handled[-1].reason == "Monday"


def test_what_is_refused_is_listed_and_the_exit_code_says_so(engine: FakeEngine, run: Run) -> None:
    three(run)
    # It ends after it was chosen: this engine's lists take no notice of a status.
    engine.runs["order-1"][-1].status = "completed"
    ran = run("batch", "terminate", "--yes", "--status", "running", "--limit", "3")
    assert ran.code == 1
    assert "order-1" in ran.out
    assert "2 done, 1 refused" in ran.err


def test_a_bad_filter_is_named(engine: FakeEngine, run: Run) -> None:
    assert run("batch", "cancel", "--limit", "0").code == 2
