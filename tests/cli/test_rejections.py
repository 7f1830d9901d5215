"""Commands that were refused, where people look for them: `workflow show`, `workflow history --rejections`, handles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.errors import CommandRejected, RunClosed, WorkflowNotFound
from tests.cli.conftest import Ran, served

Run = Callable[..., Ran]
app = Orchestrator("refusing")
NAME = ["--app-name", app.name]
go = app.signal("go", int)


@app.workflow
async def says(x: int) -> int:
    return x


@app.workflow
async def waits() -> int:
    return await go.wait()


async def prepare(client: Client) -> None:
    for x in (1, 2):
        over = await client.start(says.options(id="over"), x)
        assert await over.result() == x
        with pytest.raises(RunClosed):
            await over.using(command_id=f"too-late-{x}").signal(go, 3)
    assert [(one.code, one.command_id) async for one in over.rejections()] == [("run_closed", "too-late-2")]
    nobody = client.handle(says, "nobody")
    with pytest.raises(WorkflowNotFound):
        await nobody.using(command_id="to-nobody").cancel()
    assert [one.code async for one in nobody.rejections()] == ["not_found"]
    busy = await client.start(waits.options(id="busy"))
    for number in range(120):
        with pytest.raises(CommandRejected):
            await busy.using(command_id=f"{number:03d}").retry()
    while (await busy.describe()).status != "running":
        await asyncio.sleep(0.01)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs, and commands that came too late for them, in vain, or to nobody."""
    with served(app, monkeypatch, prepare):
        yield


@pytest.mark.contract("signal-closed")
@pytest.mark.usefixtures("live")
def test_what_was_refused_is_shown(run: Run) -> None:
    shown = run(*NAME, "workflow", "show", "over")
    assert "too-late-2  " in shown.out
    assert "is completed: SignalWorkflow go came too late" in shown.out
    assert "too-late-1" not in shown.out, "of an earlier run"
    told = run(*NAME, "workflow", "show", "over", "-o", "json").json["rejections"]
    assert [(one["code"], one["command_id"]) for one in told] == [("run_closed", "too-late-2")]
    # All runs of the id, oldest first; one of them; only the newest.
    rows = run(*NAME, "workflow", "history", "over", "--rejections", "-o", "json").json
    assert [(one["command_id"], one["code"]) for one in rows] == [
        ("too-late-1", "run_closed"),
        ("too-late-2", "run_closed"),
    ]
    first = ["--rejections", "--run", rows[0]["run_id"], "-o", "json"]
    assert [one["command_id"] for one in run(*NAME, "workflow", "history", "over", *first).json] == ["too-late-1"]
    table = run(*NAME, "workflow", "history", "over", "--rejections", "--limit", "1").out.splitlines()
    assert len(table) == 2
    assert table[0].split() == ["run", "id", "at", "code", "command", "id", "message"]
    assert "too-late-2" in table[1]
    # Of an id that has no run, and more than one answer names.
    assert "no such workflow" in run(*NAME, "workflow", "history", "nobody", "--rejections").out
    busy = run(*NAME, "workflow", "history", "busy", "--rejections", "-o", "json").json
    assert [one["command_id"] for one in busy] == [f"{number:03d}" for number in range(120)]
    assert {one["code"] for one in busy} == {"not_parked"}
    assert [one["command_id"] for one in run(*NAME, "workflow", "show", "busy", "-o", "json").json["rejections"]] == [
        f"{number:03d}" for number in range(119, 114, -1)
    ]
