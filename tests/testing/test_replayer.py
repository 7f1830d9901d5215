"""Exported histories replayed against today's code; environments replay their own in a second process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import ConfigurationError, Orchestrator, RunParked
from orchestrator.core import events as e
from orchestrator.core.values import Failure, Payload
from orchestrator.errors import Divergence
from orchestrator.testing import Replayer, environment
from orchestrator.testing.replayer import reference_of
from tests.sdk.driver import Driver
from tests.testing import hash_order

pytestmark = pytest.mark.slow


def application(step: str, bug: bool = False) -> Any:
    """`flow` calls one of two steps; its application and itself."""
    app = Orchestrator("replayed")

    @app.step(name=step)
    async def work(n: int) -> int:
        return n + 1

    @app.workflow(name="flow")
    async def flow(n: int) -> int:
        total = 0
        for _ in range(n):
            total += await work(total)
            await asyncio.sleep(60)
        return int("five") if bug else total

    return app, flow


async def export(app: Any, flow: Any, path: Path, *, parked: bool = False) -> None:
    """What `orchestrator workflow history ID -o jsonl` writes."""
    async with environment(app) as env:
        handle = await env.start(flow.options(id="r-1"), 2)
        if parked:
            with pytest.raises(RunParked):
                await handle.result()
        else:
            assert await handle.result() == 3
        path.write_text("\n".join([json.dumps(event.raw) async for event in handle.history()]), encoding="utf-8")


def test_a_history_repeats_and_other_code_diverges(tmp_path: Path) -> None:
    path = tmp_path / "r-1.jsonl"
    asyncio.run(export(*application("work"), path))
    assert Replayer(application("work")[0]).replay(path) == 5
    with pytest.raises(Divergence, match=r"workflow r-1, event 1 \(RunStarted\).*step 0:1.*'work'.*'play'"):
        Replayer(application("play")[0]).replay(str(path))
    with pytest.raises(ConfigurationError, match="has no workflow flow"):
        Replayer(Orchestrator("empty")).replay(path)


def test_a_parked_run_repeats_with_and_without_the_bug(tmp_path: Path) -> None:
    path = tmp_path / "r-1.jsonl"
    asyncio.run(export(*application("work", bug=True), path, parked=True))
    assert Replayer(application("work", bug=True)[0]).replay(path) == 4
    assert Replayer(application("work")[0]).replay(path) == 4
    with pytest.raises(Divergence):
        Replayer(application("play")[0]).replay(path)


def test_a_delivery_that_the_code_ended_without_is_no_divergence() -> None:
    """It was recorded in the batch of the turn that ended the run, before that turn: a result, then a signal."""
    app, flow = application("work")
    driver = Driver(flow, 1)
    driver.work(driver.steps()[0])
    driver.fire()
    *before, end = driver.history
    assert isinstance(end.body, e.RunCompleted)
    unheard = end._replace(body=e.SignalReceived("news", Payload()))
    assert Replayer(app).replay([*before, unheard, end._replace(seq=end.seq + 1)]) == 4


def test_what_a_terminated_run_did_not_take_any_more_is_no_divergence() -> None:
    app, flow = application("work")
    started, *_ = Driver(flow, 1).history
    terminated = started._replace(seq=2, body=e.RunTerminated())
    assert Replayer(app).replay([started, terminated]) == 0
    timed_out = started._replace(seq=2, body=e.RunFailed(0, Failure("RunTimeout", "too long")))
    assert Replayer(app).replay([started, timed_out]) == 0
    with pytest.raises(Divergence):
        Replayer(app).replay([started, started._replace(seq=2, body=e.RunFailed(1, Failure("RunTimeout", "")))])


def test_an_application_is_found_by_its_module() -> None:
    assert reference_of(hash_order.app) == "tests.testing.hash_order:app"
    assert reference_of(application("work")[0]) == ""


def test_the_order_of_a_set_is_found_in_a_second_process() -> None:
    async def run(workflow: Any, second_process: bool = True) -> None:
        async with environment(hash_order.app, second_process=second_process) as env:
            assert await env.execute(workflow) == 12

    asyncio.run(run(hash_order.ordered))
    asyncio.run(run(hash_order.unordered, second_process=False))
    with pytest.raises(Divergence, match="with other arguments"):
        asyncio.run(run(hash_order.unordered))
