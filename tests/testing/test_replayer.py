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
from orchestrator.store.blobs import DirectoryBlobs
from orchestrator.testing import Replayer, environment
from orchestrator.testing.replayer import in_second_process, reference_of
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


def test_the_environment_takes_values_beyond_a_record_and_replays_them() -> None:
    app = Orchestrator("large")

    @app.step
    async def twice(text: str) -> str:
        return text * 2

    @app.workflow
    async def flow(text: str) -> int:
        return len(await twice(text))

    async def run() -> None:
        async with environment(app) as env:
            assert await env.execute(flow, "x" * 1_100_000) == 2_200_000

    asyncio.run(run())


def test_large_values_are_had_in_a_second_process_too(tmp_path: Path) -> None:
    """A history that cannot be replayed there for want of them says nothing."""
    blobs = DirectoryBlobs(tmp_path)

    async def history(workflow: Any) -> list[Any]:
        async with environment(hash_order.app, second_process=False) as env:
            handle = await env.start(workflow.options(id="w"))
            assert await handle.result() == 12
            raw = [event.raw async for event in handle.history()]
        for event in raw:
            if event["type"] == "StepScheduled":
                ref = blobs.put(json.dumps(event["body"]["arguments"]).encode())
                event["body"]["arguments"] = {"$codec": "json", "key_id": "", "base64": "", "blob": ref._asdict()}
        return raw

    unordered = asyncio.run(history(hash_order.unordered))
    told = [("w", "r", unordered)]
    asyncio.run(in_second_process("tests.testing.hash_order:app", told))
    with pytest.raises(Divergence):
        asyncio.run(in_second_process("tests.testing.hash_order:app", told, tmp_path))


def test_the_order_of_a_set_is_found_in_a_second_process() -> None:
    async def run(workflow: Any, second_process: bool = True) -> None:
        async with environment(hash_order.app, second_process=second_process) as env:
            assert await env.execute(workflow) == 12

    asyncio.run(run(hash_order.ordered))
    asyncio.run(run(hash_order.unordered, second_process=False))
    with pytest.raises(Divergence, match="with other arguments"):
        asyncio.run(run(hash_order.unordered))
