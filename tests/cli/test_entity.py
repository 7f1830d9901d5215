"""`orchestrator entity` on the log in memory: show, query, call, send."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from orchestrator.cli import session
from orchestrator.testing import environment
from tests.cli.conftest import Ran
from tests.histories import app as code

Run = Callable[..., Ran]
NAME = ["--app-name", code.app.name]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine that these command lines reach."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with environment(code.app, second_process=False) as client:
            transport = client.calls.caller._transport
            make = type(transport)
            monkeypatch.setattr(
                session, "open_transport", lambda app, settings: make(transport._cluster, app, transport.partitions)
            )
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    yield
    over.set()
    thread.join()


@pytest.mark.usefixtures("live")
def test_an_entity_from_the_command_line(run: Run) -> None:
    called = run(*NAME, "entity", "call", "Counter", "seven", "grow", "by=2", "-o", "json")
    assert (called.code, called.json) == (0, 2), called.err
    sent = run(*NAME, "entity", "send", "Counter", "seven", "grow", "by=3", "-o", "json")
    assert sent.json["workflow_id"] == "Counter/seven"
    waited = run(*NAME, "workflow", "wait", "Counter/seven", "--run", sent.json["run_id"], "-o", "json")
    assert waited.json == 5
    shown = run(*NAME, "entity", "show", "Counter", "seven", "-o", "json")
    assert (shown.json["state"], shown.json["waiting"], shown.json["calls"]) == ({"value": 5}, 0, 2)
    assert run(*NAME, "entity", "query", "Counter", "seven", "doubled", "plus=1", "-o", "json").json == 11


@pytest.mark.usefixtures("live")
def test_what_is_not_there_is_said(run: Run) -> None:
    ran = run(*NAME, "entity", "query", "Counter", "seven", "halved")
    assert ran.code == 5
    assert "no query 'halved'; it answers doubled" in ran.err
    ran = run("--app", "tests.histories.app:app", "entity", "call", "Counter", "seven", "shrink")
    assert ran.code == 2
    assert "has no handler 'shrink'; it has: grow" in ran.err
