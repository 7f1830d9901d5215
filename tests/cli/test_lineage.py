"""Where a run comes from, as `workflow history` and `workflow show` print it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from orchestrator import Client, Orchestrator, continue_as_new
from tests.cli.conftest import Ran, served

Run = Callable[..., Ran]
app = Orchestrator("descent")
NAME = ["--app-name", app.name]
MEMO = {"note": "a wish of mine " * 10}


@app.step
async def add(x: int, y: int) -> int:
    """A step."""
    return x + y


@app.workflow
async def sums(x: int) -> int:
    return await add(await add(x, 1), 2)


@app.workflow
async def counts(left: int) -> int:
    if left:
        await continue_as_new(left - 1)
    return left


async def prepare(client: Client) -> None:
    first = await client.start(sums.options(id="forked", memo=MEMO), 1)
    assert await first.result() == 4
    forked = await first.fork("add", arguments=(5,))
    assert await forked.result() == 4
    again = await client.start(counts.options(id="continued"), 1)
    assert await again.result() == 0


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run that was forked, and one that continued."""
    with served(app, monkeypatch, prepare):
        yield


@pytest.mark.contract("fork")
@pytest.mark.usefixtures("live")
def test_a_forks_history_says_what_is_copied_and_from_where(run: Run) -> None:
    events = run(*NAME, "workflow", "history", "forked", "-o", "json").json
    upto = events[0]["body"]["forked_upto"]
    before = events[0]["body"]["previous_run_id"]
    table = run(*NAME, "workflow", "history", "forked").out.splitlines()[1:]
    assert len(table) == len(events)
    assert f"RunStarted     forked from {before} behind event {upto}" in table[0]
    assert [event["seq"] for event in events if event.get("copied_at_ms") and event["seq"] > 1] == [*range(2, upto + 1)]
    assert [seq for seq, line in enumerate(table, 1) if "(copied)" in line] == [*range(2, upto + 1)]
    assert "(copied) 0:1 add" in table[1]
    of_the_first = run(*NAME, "workflow", "history", "forked", "--run", before).out
    assert "(copied)" not in of_the_first
    assert "forked" not in of_the_first
    shown = run(*NAME, "workflow", "show", "forked").out
    assert f"{before}, forked behind its event {upto}" in " ".join(shown.split())


@pytest.mark.usefixtures("live")
def test_a_continued_runs_history_begins_with_the_run_before(run: Run) -> None:
    events = run(*NAME, "workflow", "history", "continued", "-o", "json").json
    before = events[0]["body"]["previous_run_id"]
    assert f"continues {before}" in run(*NAME, "workflow", "history", "continued").out.splitlines()[1]
