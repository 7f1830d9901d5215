"""Everything that a run says of itself, and that people say to it, in `workflow show` and `workflow history`: an engine
on the log in memory, a table and JSON."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Client, Orchestrator, approval, patched, set_summary, update
from orchestrator.cli.output import time_text
from tests.cli.conftest import Ran, served

Run = Callable[..., Ran]
app = Orchestrator("shown")
NAME = ["--app-name", app.name]
region = app.attribute("region", str)
cents = app.attribute("cents", int)
released = threading.Event()


@app.step(retry=1)
async def pack(parcel: int) -> int:
    """Two are packed, one is broken, and one takes its time."""
    if parcel == 3:
        raise ValueError("broken")
    while parcel == 4 and not released.is_set():
        await asyncio.sleep(0.01)
    return parcel


class Order:
    """A run that has all of it."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @app.run
    async def order(self, parcels: int) -> list[str]:
        set_summary("asking")
        region.set("north")
        if patched("ask-first"):
            await approval("ship", {"parcels": parcels}, to=["ops"])
        set_summary("packing")
        await pack.map(range(1, parcels + 1), concurrency=parcels, on_error="collect")
        return self.notes

    @update
    async def annotate(self, note: str) -> int:
        """Keeps a note."""
        self.notes.append(note)
        return len(self.notes)


async def prepare(client: Client) -> None:
    released.clear()
    options: dict[str, Any] = {
        "memo": {"by": "eva"},
        "attributes": [cents.of(900), region.of("south")],
        "summary": "order of eva",
        "run_timeout": timedelta(hours=1),
        "execution_timeout": timedelta(days=2),
    }
    run = await client.start(Order.order.options(id="o-7", **options), 4)
    while not (waiting := [one async for one in client.approvals.list()]):
        await asyncio.sleep(0.01)
    await client.using(reason="four eyes").approvals.approve(waiting[0].id, waiting[0].digest, by="max", comment="go")
    assert await run.update(Order.annotate, "by the back door") == 1
    while sum(one.done + one.failed for one in (await run.describe()).maps) < 3:
        await asyncio.sleep(0.01)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run in the middle of its map."""
    with served(app, monkeypatch, prepare):
        yield
        released.set()


def history(run: Run) -> tuple[dict[str, list[str]], dict[str, list[Any]]]:
    """The history's lines and bodies, by the events' types."""
    lines, bodies = dict[str, list[str]](), dict[str, list[Any]]()
    for line in run(*NAME, "workflow", "history", "o-7").out.splitlines()[1:]:
        lines.setdefault(line.split()[3], []).append(" ".join(line.split()))
    for event in run(*NAME, "workflow", "history", "o-7", "-o", "json").json:
        bodies.setdefault(event["type"], []).append(event["body"])
    return lines, bodies


@pytest.mark.contract("start-attributes", "step-map", "patch")
@pytest.mark.usefixtures("live")
def test_what_a_run_says_of_itself_is_shown(run: Run) -> None:
    shown = [" ".join(line.split()) for line in run(*NAME, "workflow", "show", "o-7").out.splitlines()]
    for line in (
        "type Order version 1",
        "maps pack 3 of 4 (1 failed)",
        "summary order of eva",
        "now packing",
        "attributes cents=900, region=north",
        'memo {"by": "eva"}',
        "patches ask-first",
    ):
        assert line in shown
    told = run(*NAME, "workflow", "show", "o-7", "-o", "json").json
    assert (told["memo"], told["attributes"]) == ({"by": "eva"}, {"cents": 900, "region": "north"})
    assert (told["summary"], told["current_summary"], told["patches"]) == ("order of eva", "packing", ["ask-first"])
    (progress,) = told["maps"]
    assert (progress["name"], progress["done"], progress["failed"], progress["total"]) == ("pack", 2, 1, 4)
    lines, bodies = history(run)
    assert [body["memo"] for body in bodies["RunStarted"]] == [{"by": "eva"}]
    assert [body["patch"] for body in bodies["RunPatched"]] == ["ask-first"]
    assert "patch=ask-first" in lines["RunPatched"][0]
    assert [body["summary"] for body in bodies["RunAnnotated"]] == ["asking", "packing"]
    assert "summary=packing" in lines["RunAnnotated"][1]
    assert [body["attributes"][0]["name"] for body in bodies["RunAnnotated"] if body["attributes"]] == ["region"]
    assert len(lines["StepScheduled"]) == 4
    assert "ValueError: broken" in lines["StepFailed"][0]


@pytest.mark.contract("start-timeouts")
@pytest.mark.usefixtures("live")
def test_how_long_a_run_may_take_is_shown(run: Run) -> None:
    told = run(*NAME, "workflow", "show", "o-7", "-o", "json").json
    began = told["started_at_ms"]
    assert (told["run_timeout_ms"], told["run_ends_at_ms"]) == (3_600_000, began + 3_600_000)
    assert told["execution_ends_at_ms"] == began + 2 * 86_400_000
    shown = [" ".join(line.split()) for line in run(*NAME, "workflow", "show", "o-7").out.splitlines()]
    assert "run time-out 1:00:00" in shown
    assert f"run ends at {time_text(began + 3_600_000)}" in shown
    assert f"execution ends at {time_text(began + 2 * 86_400_000)}" in shown
    assert run(*NAME, "workflow", "terminate", "o-7").code == 0
    told = run(*NAME, "workflow", "show", "o-7", "-o", "json").json
    assert (told["run_timeout_ms"], told["run_ends_at_ms"]) == (3_600_000, None)
    assert "ends at" not in run(*NAME, "workflow", "show", "o-7").out


@pytest.mark.contract("update", "approval-history", "pause")
@pytest.mark.usefixtures("live")
def test_what_people_said_to_a_run_is_shown(run: Run) -> None:
    assert run(*NAME, "workflow", "pause", "o-7", "--reason", "stock-taking").code == 0
    said = run(*NAME, "workflow", "show", "o-7").out
    assert said.startswith("o-7 is paused")
    assert "stock-taking" in said.splitlines()[0]
    assert run(*NAME, "workflow", "show", "o-7", "-o", "json").json["status"] == "paused"
    lines, bodies = history(run)
    assert [(body["name"], body["to"]) for body in bodies["ApprovalAsked"]] == [("ship", ["ops"])]
    (decided,) = bodies["ApprovalDecided"]
    assert (decided["approved"], decided["by"], decided["comment"]) == (True, "max", "go")
    assert "for max approval=0:1 approved=true comment=go " in lines["ApprovalDecided"][0]
    assert 'request={"parcels": 4}' in lines["ApprovalAsked"][0]
    assert [body["name"] for body in bodies["UpdateAccepted"]] == ["annotate"]
    assert "annotate" in lines["UpdateAccepted"][0]
    assert [body["result"] for body in bodies["UpdateCompleted"]] == [1]
    assert "result=1" in lines["UpdateCompleted"][0]
    assert [body["reason"] for body in bodies["RunPaused"]] == ["stock-taking"]
    assert "reason=stock-taking" in lines["RunPaused"][0]
    assert run(*NAME, "workflow", "resume", "o-7", "--reason", "counted").code == 0
    assert "reason=counted" in history(run)[0]["RunResumed"][0]
    released.set()
    assert run(*NAME, "workflow", "wait", "o-7", "-o", "json").json == ["by the back door"]
