"""`orchestrator event`, and what `workflow show` says of a run that waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator import Client, Orchestrator, wait_event
from tests.cli.conftest import Ran, served

Run = Callable[..., Ran]
app = Orchestrator("eventful")
NAME = ["--app-name", app.name]


@app.workflow
async def listens(order_id: str) -> Any:
    return await wait_event("payment", {"order_id": order_id})


async def prepare(client: Client) -> None:
    await client.start(listens.options(id="order-7"), "7")
    while not (await client.events("payment")).waiting:
        await asyncio.sleep(0.01)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run that waits."""
    with served(app, monkeypatch, prepare):
        yield


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
