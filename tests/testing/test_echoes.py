"""What workflow code logs is said once, however often its history is replayed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from orchestrator import Orchestrator, query
from orchestrator.cli.main import main
from orchestrator.testing import environment
from tests.cli.test_run_debug import APP, export, recorded

pytestmark = pytest.mark.slow

app = Orchestrator("echoes")
log = logging.getLogger("tests.echoes")
go = app.signal("go", int)


@app.step
async def step(number: int) -> int:
    """Says a line outside any run's loop."""
    log.info("step %d", number)
    return number


class Talker:
    """Logs at every line, in its query, and on its way out of memory."""

    @app.run
    async def run(self) -> int:
        log.info("one")
        try:
            await step(1)
            log.info("two")
            await step(2)
            log.info("three")
            return await go.wait()
        finally:
            log.info("out")

    @query
    def asked(self) -> int:
        log.info("asked")
        return 1


async def said(number: int) -> int:
    """Says when its step is done: in a turn that issues nothing while others are under way."""
    await step(number)
    log.info("done %d", number)
    return number


@app.workflow
async def crowd() -> int:
    return sum(await asyncio.gather(*(said(number) for number in range(6))))


class Kept(logging.Handler):
    """A handler of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self.lines.append(record.getMessage())


def test_every_line_is_said_once_whatever_is_replayed(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that comes late is served too, and none is touched."""
    caplog.set_level(logging.INFO, "tests.echoes")
    late = Kept()

    async def run() -> None:
        async with environment(app) as env:
            log.addHandler(late)
            handle = await env.start(Talker.run)
            while await handle.query(Talker.asked) < 1 or "three" not in late.lines:
                await asyncio.sleep(0.01)
            await handle.signal(go, 7)
            assert await handle.result() == 7
            assert await handle.query(Talker.asked) == 1

    try:
        asyncio.run(run())
    finally:
        log.removeHandler(late)
    said = [line for line in late.lines if line != "asked"]
    assert said == ["one", "step 1", "two", "step 2", "three", "out"]
    assert late.lines[-1] == "asked"
    assert not late.filters
    assert caplog.messages == late.lines


def test_turns_that_leave_nothing_on_the_log_are_said_once_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tests.echoes")

    async def run() -> None:
        async with environment(app) as env:
            assert await env.execute(crowd) == 15

    asyncio.run(run())
    assert sorted(line for line in caplog.messages if "done" in line) == [f"done {number}" for number in range(6)]


def test_debug_shows_what_a_replay_in_ci_drops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tests.cli.debugged")
    file = export(tmp_path / "h.jsonl", recorded(["pen", "ink"]))
    caplog.clear()
    assert main([*APP, "workflow", "replay", file]) == 0
    assert caplog.messages == []
    assert main([*APP, "workflow", "debug", "order-7", "--history", file]) == 0
    assert caplog.messages == ["packing pen", "packing ink"]
