"""`orchestrator approval`, and what `workflow show` says of a run that waits for an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from orchestrator import Orchestrator, approval
from orchestrator.cli import session
from orchestrator.testing import environment
from tests.cli.conftest import Ran

Run = Callable[..., Ran]
app = Orchestrator("approving")
NAME = ["--app-name", app.name]


@app.workflow
async def asks(version: int) -> str:
    answer = await approval("deploy", {"version": version}, to=["ops", "eva"])
    return f"{answer.outcome}, {answer.comment}"


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two runs that wait."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with environment(app, second_process=False) as client:
            transport = client.calls.caller._transport
            make = type(transport)
            monkeypatch.setattr(
                session, "open_transport", lambda app, settings: make(transport._cluster, app, transport.partitions)
            )
            for version in (1, 2):
                await client.start(asks.options(id=f"deploy-{version}"), version)
            while len([one async for one in client.approvals.list()]) < 2:
                await asyncio.sleep(0.01)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    yield
    over.set()
    thread.join()


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
