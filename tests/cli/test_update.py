"""`orchestrator workflow start --update` on the log in memory: starts unless a run is open, updates, answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.cli import session
from tests.cli.conftest import Ran, served
from tests.client.fake_engine import FakeEngine

Run = Callable[..., Ran]
app = Orchestrator("sums")
add = app.update("add", int, int)
end = app.signal("end", bool)


@app.workflow
async def sums(total: int = 0) -> int:
    """Takes what it is given until somebody says that it is enough."""

    def given(number: int) -> int:
        nonlocal total
        total += number
        return total

    def positive(number: int) -> None:
        if number < 0:
            raise ValueError(f"{number} is negative")

    add.handle(given, validator=positive)
    await end.wait()
    return total


@pytest.fixture(scope="module")
def world() -> Iterator[None]:
    """An engine of the application."""

    async def nothing(client: Client) -> None:
        """All is made by the commands."""

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(session, "open_transport", None)
        with served(app, monkeypatch, nothing):
            yield


APP = ("--app", f"{__name__}:app")


@pytest.mark.usefixtures("world")
def test_a_run_is_started_once_and_updated_by_each(run: Run) -> None:
    start = (*APP, "workflow", "start", "sums", "total=100", "--id", "one", "-o", "json")
    first = run(*start, "--update", "add=3", "--command-id", "c1")
    assert (first.code, first.json["answer"], first.json["outcome"]) == (0, 103, "RunStarted"), first.err
    assert "one runs (run " in first.err
    again = run(*start, "--update", "add=3", "--command-id", "c1")
    assert (again.json["answer"], again.json["run_id"]) == (103, first.json["run_id"]), "the same update"
    second = run(*start, "--update", "add=4")
    assert (second.json["answer"], second.json["run_id"]) == (107, first.json["run_id"])
    assert run(*start).code == 5, "without an update an open run is a conflict"


@pytest.mark.usefixtures("world")
def test_the_start_stands_if_the_update_is_refused(run: Run) -> None:
    refused = run(*APP, "workflow", "start", "sums", "--id", "two", "--update", "add=-1")
    assert (refused.code, refused.out) == (5, "")
    assert "-1 is negative" in refused.err
    assert "two runs (run " in refused.err
    assert run(*APP, "workflow", "show", "two", "-o", "json").json["status"] == "running"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["start", "sums", "--update", "=3"], "--update: write NAME or NAME=JSON"),
        (["start", "sums", "--update", "add={"], "--update is not JSON"),
        (["execute", "sums", "--update", "add=3"], "No such option"),
    ],
)
def test_what_cannot_be_is_a_usage_error(engine: FakeEngine, run: Run, words: list[str], said: str) -> None:
    ran = run("workflow", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert engine.received == []
