"""What is listed comes in pages that fit into a reply, whatever its texts are made of."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from orchestrator import Orchestrator
from orchestrator.client.schedules import Schedule
from orchestrator.engine.pages import as_json
from orchestrator.testing import environment

pytestmark = pytest.mark.slow

app = Orchestrator("pages")
WORD = "дом"
TEXTS, LETTERS = 40, 9_000


@app.step
def echo(text: str) -> str:
    return text


@app.workflow
async def says(word: str) -> int:
    return len(await asyncio.gather(*(echo(word * (LETTERS // len(word))) for _ in range(TEXTS))))


@app.workflow
async def waits(_text: str = "") -> None:
    await asyncio.sleep(86_400)


def test_a_history_can_be_read_whatever_its_letters() -> None:
    """Escaped, most letters of the world take three times their bytes."""

    async def read() -> list[str]:
        async with environment(app) as env:
            handle = await env.start(says.options(id="w"), WORD)
            assert await handle.result() == TEXTS
            events = [event.raw async for event in handle.history()]
            return [event["body"]["result"] for event in events if event["type"] == "StepCompleted"]

    assert asyncio.run(read()) == [WORD * (LETTERS // len(WORD))] * TEXTS


def test_half_a_surrogate_pair_is_written_as_it_came() -> None:
    value = json.loads('["\\ud83d", "дом"]')
    assert json.loads(as_json(value)) == value


def test_runs_with_large_memos_are_listed() -> None:
    async def listed() -> list[str]:
        async with environment(app) as env:
            for number in range(40):
                await env.start(waits.options(id=f"w{number:03}", memo={"about": "x" * 60_000}))
            return [run.workflow_id async for run in env.runs()]

    assert sorted(asyncio.run(listed())) == [f"w{number:03}" for number in range(40)]


def test_schedules_with_large_arguments_are_listed() -> None:
    async def listed() -> list[str]:
        async with environment(app) as env:
            for number in range(40):
                every = Schedule(every=timedelta(days=1))
                await env.schedules.create(f"s{number:03}", every, waits, "x" * 60_000)
            return [one.id async for one in env.schedules.list()]

    assert sorted(asyncio.run(listed())) == [f"s{number:03}" for number in range(40)]
