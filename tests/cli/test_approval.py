"""`orchestrator approval`, and what `workflow show` says of a run that waits for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from orchestrator import Client, Orchestrator, approval
from tests.cli.conftest import Ran, served

Run = Callable[..., Ran]
app = Orchestrator("approving")
NAME = ["--app-name", app.name]


@app.workflow
async def asks(version: int) -> str:
    answer = await approval("deploy", {"version": version}, to=["ops", "eva"])
    return f"{answer.outcome}, {answer.comment}"


async def prepare(client: Client) -> None:
    for version in (1, 2):
        await client.start(asks.options(id=f"deploy-{version}"), version)
    while len([one async for one in client.approvals.list()]) < 2:
        await asyncio.sleep(0.01)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two runs that wait."""
    with served(app, monkeypatch, prepare):
        yield


@pytest.mark.usefixtures("live")
def test_the_inbox_and_its_answers(run: Run) -> None:
    assert "approval deploy by ops, eva" in run(*NAME, "workflow", "show", "deploy-1").out
    assert run(*NAME, "approval", "list", "--to", "max", "-o", "json").json == []
    found = {one["workflow_id"]: one for one in run(*NAME, "approval", "list", "--to", "eva", "-o", "json").json}
    one, other = found["deploy-1"], found["deploy-2"]
    assert run(*NAME, "approval", "show", one["id"], "-o", "json").json["request"] == {"version": 1}
    assert '{"version": 2}' in run(*NAME, "approval", "list").out
    refused = run(*NAME, "approval", "approve", one["id"], "--digest", other["digest"])
    assert refused.code != 0
    assert "look again" in refused.err
    said = run(*NAME, "approval", "approve", one["id"], "--digest", one["digest"], "--comment", "go", "-o", "json")
    assert (said.code, said.json["answer"], said.json["digest"]) == (0, "approved", one["digest"])
    assert run(*NAME, "approval", "reject", other["id"], "--comment", "no").code == 0
    assert "approved, go" in run(*NAME, "workflow", "wait", "deploy-1").out
    assert "rejected, no" in run(*NAME, "workflow", "wait", "deploy-2").out
    again = run(*NAME, "approval", "reject", one["id"])
    assert again.code != 0
    assert "waits for no" in again.err


@pytest.mark.usefixtures("engine")
def test_what_is_no_id_is_refused(run: Run) -> None:
    wrong = run(*NAME, "approval", "approve", "deploy-1")
    assert wrong.code != 0
    assert "approval list" in wrong.err
