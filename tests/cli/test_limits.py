"""`orchestrator limits` and what `workflow show` says of a run that waits for a slot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.cli import session
from orchestrator.testing import environment
from tests.cli.conftest import Ran

Run = Callable[..., Ran]
app = Orchestrator("limited")
go = app.signal("go", int)
imports = app.limit("imports", concurrency=1, key="tenant")
calls = app.limit("calls", concurrency=1, rate=(50, "second"))
NAME = ["--app-name", app.name]


@app.step(limits=[calls], isolation="thread")
async def hangs(number: int) -> None:
    await asyncio.Event().wait()


@app.workflow(limits=[imports])
async def import_all(tenant: str) -> None:
    await asyncio.gather(hangs(1), hangs(2))


async def counted(client: Client) -> int:
    """How many hold the limit of imports, or wait for it."""
    return sum([one.held + one.waiting async for one in client.limits.list() if one.name == "imports"])


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three runs of one tenant: one works, two wait."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with environment(app, second_process=False) as client:
            transport = client.calls.caller._transport
            make = type(transport)
            monkeypatch.setattr(
                session, "open_transport", lambda app, settings: make(transport._cluster, app, transport.partitions)
            )
            for number in (1, 2, 3):
                await client.start(import_all.options(id=f"import-{number}"), "acme")
                while await counted(client) < number:
                    await asyncio.sleep(0.01)
            ready.set()
            await asyncio.to_thread(over.wait)
            for number in (3, 2, 1):
                await client.handle(import_all, f"import-{number}").terminate()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    yield
    over.set()
    thread.join()


@pytest.mark.usefixtures("live")
def test_who_holds_a_limit_and_who_waits(run: Run) -> None:
    listed = run(*NAME, "limits", "list", "-o", "json")
    found = {one["limit"]: one for one in listed.json}
    assert (found["imports"]["key"], found["imports"]["held"], found["imports"]["waiting"]) == ("acme", 1, 2)
    shown = run(*NAME, "limits", "show", "imports", "acme", "-o", "json").json
    assert [one["workflow_id"] for one in shown["holders"]] == ["import-1"]
    assert [one["workflow_id"] for one in shown["queue"]] == ["import-2", "import-3"]
    table = run(*NAME, "limits", "show", "imports", "acme").out
    assert "place 2" in table


@pytest.mark.usefixtures("live")
def test_a_run_says_in_which_place_it_waits(run: Run) -> None:
    shown = run(*NAME, "workflow", "show", "import-3")
    assert shown.out.startswith("import-3 is limited: waits for a slot of limit imports [acme], place 2")


@pytest.mark.usefixtures("live")
def test_a_limit_that_nobody_needs_is_not_there(run: Run) -> None:
    ran = run(*NAME, "limits", "show", "imports", "other")
    assert ran.code == 3
    assert "limit 'imports' of key 'other': nobody holds it now" in ran.err
