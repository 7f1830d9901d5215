"""`orchestrator event`, and what `workflow show` says of a run that waits for one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator import Orchestrator, wait_event
from orchestrator.cli import session
from orchestrator.testing import environment
from tests.cli.conftest import Ran

Run = Callable[..., Ran]
app = Orchestrator("eventful")
NAME = ["--app-name", app.name]


@app.workflow
async def listens(order_id: str) -> Any:
    return await wait_event("payment", {"order_id": order_id})


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run that waits."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with environment(app, second_process=False) as client:
            transport = client.calls.caller._transport
            make = type(transport)
            monkeypatch.setattr(
                session, "open_transport", lambda app, settings: make(transport._cluster, app, transport.partitions)
            )
            await client.start(listens.options(id="order-7"), "7")
            while not (await client.events("payment")).waiting:
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
def test_an_event_is_sent_once_listed_and_heard(run: Run) -> None:
    assert "event payment" in run(*NAME, "workflow", "show", "order-7").out
    for _ in range(2):
        sent = run(*NAME, "event", "send", "payment", '{"order_id": "7"}', "--id", "one", "-o", "json")
        assert (sent.code, sent.json["name"], sent.json["id"]) == (0, "payment", "one")
    assert run(*NAME, "workflow", "wait", "order-7", "-o", "json").code == 0
    (kept,) = run(*NAME, "event", "list", "payment", "-o", "json").json
    assert (kept["id"], kept["payload"]) == ("one", {"order_id": "7"})
    assert '{"order_id": "7"}' in run(*NAME, "event", "list", "payment").out
    assert run(*NAME, "event", "list", "nobody", "-o", "json").json == []


@pytest.mark.usefixtures("engine")
def test_what_is_no_event_is_refused(run: Run) -> None:
    text = run(*NAME, "event", "send", "payment", "paid")
    assert text.code == 2
    assert "a text needs quotes" in text.err
    unnamed = run(*NAME, "event", "send", "")
    assert unnamed.code != 0
    assert "non-empty" in unnamed.err
