"""The contract, "Steps": the numbers of the retry policy, and what ends a step in time, whatever state it is in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Client, CommandRejected, Handle, Orchestrator, RetryPolicy, StepTimeout, step_info
from orchestrator.client.views import HistoryEvent
from tests.contract.world import World

app = Orchestrator("contract-step-times")
one_at_a_time = app.limit("one", concurrency=1)
AT_ONCE = RetryPolicy(initial_interval=timedelta(milliseconds=10))
LIMIT_S = 1.5
WINDOW_MS = 700

gates: dict[str, threading.Event] = {}
began: set[str] = set()
told: set[str] = set()
keys: dict[str, str] = {}
details: dict[str, list[Any]] = {}
"""By workflow id: steps run in this process."""


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    for one in (gates, began, told, keys, details):
        one.clear()  # type: ignore[attr-defined]
    yield
    for gate in gates.values():
        gate.set()


@app.step
async def fails() -> int:
    raise ConnectionError("not yet")


@app.step(retry=AT_ONCE, schedule_to_close=timedelta(seconds=LIMIT_S))
async def works_on() -> int:
    began.add(step_info().workflow_id)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        told.add(step_info().workflow_id)
        raise
    return 1


@app.step(retry=RetryPolicy(initial_interval=timedelta(seconds=1)), schedule_to_close=timedelta(seconds=2 * LIMIT_S))
async def backs_off() -> int:
    raise ConnectionError("not yet")


@app.step(limits=[one_at_a_time])
async def holds() -> int:
    gate = gates.setdefault(step_info().workflow_id, threading.Event())
    while not gate.is_set():
        await asyncio.sleep(0.01)
    return 1


@app.step(retry=AT_ONCE, limits=[one_at_a_time], schedule_to_close=timedelta(seconds=LIMIT_S))
async def waits_for_a_slot() -> int:
    return 1


@app.step(retry=AT_ONCE, heartbeat=timedelta(milliseconds=WINDOW_MS))
async def spoken_for() -> int:
    """Says nothing itself."""
    info = step_info()
    keys[info.workflow_id] = info.idempotency_key
    details.setdefault(info.workflow_id, []).append(info.details)
    await asyncio.sleep(60)
    return 1


@app.workflow
async def by_default() -> int:
    return await fails()


@app.workflow
async def occupies() -> int:
    return await holds()


@app.workflow
async def in_time(which: str) -> str:
    step = {"runs": works_on, "backs off": backs_off, "waits for a slot": waits_for_a_slot}[which]
    try:
        return str(await step())
    except StepTimeout as error:
        return str(error)


@app.workflow
async def listens() -> int:
    return await spoken_for()


async def events(handle: Handle[Any], kind: str) -> list[HistoryEvent]:
    """The events of a kind in a run's history."""
    return [event async for event in handle.history() if event.type == kind]


@pytest.mark.contract("step-retry")
def test_a_step_that_says_nothing_has_the_default_policy(world: World) -> None:
    """1 s, then twice as long; at most a hundred times that, and without end."""

    async def scenario(client: Client) -> None:
        handle = await client.start(by_default)
        while len(failed := await events(handle, "StepAttemptFailed")) < 2:
            await asyncio.sleep(0.02)
        assert [event.body["retry_at_ms"] - event.at_ms for event in failed] == [1_000, 2_000]
        assert failed[1].at_ms - failed[0].at_ms >= 1_000
        (scheduled,) = await events(handle, "StepScheduled")
        assert scheduled.body["options"]["retry"] == {
            "initial_interval_ms": 1_000,
            "backoff": 2.0,
            "max_interval_ms": 0,
            "max_attempts": 0,
            "non_retryable": [],
        }
        await handle.terminate()

    world.run(app, scenario)


@pytest.mark.contract("step-timeouts")
@pytest.mark.parametrize("which", ["runs", "waits for a slot"])
def test_schedule_to_close_ends_a_step_that_runs_or_waits(world: World, which: str) -> None:
    """For good: no attempt follows, although the policy has more; who runs is told."""

    async def scenario(client: Client) -> None:
        first = await client.start(occupies.options(id="first"))
        while [one.held async for one in client.limits.list()] != [1]:
            await asyncio.sleep(0.01)
        handle = await client.start(in_time, which)
        assert "schedule_to_close" in await handle.result()
        (scheduled,), (failed,) = await events(handle, "StepScheduled"), await events(handle, "StepFailed")
        assert failed.body["timeout"] == "schedule_to_close"
        assert failed.at_ms - scheduled.at_ms >= LIMIT_S * 1_000
        assert await events(handle, "StepAttemptFailed") == []
        # Who carries an attempt on that was handed over is not told: it ends with its grace time.
        while handle.workflow_id in began - told and not await events(handle, "StepHandedOver"):
            await asyncio.sleep(0.01)
        gates["first"].set()
        assert await first.result() == 1

    world.run(app, scenario)


@pytest.mark.contract("step-timeouts")
def test_schedule_to_close_ends_a_back_off_that_a_down_time_outlasted(world: World) -> None:
    """Its retry would have been in time; when an engine is back both are over, and no attempt begins."""

    async def scenario(client: Client) -> None:
        while True:
            handle = await client.start(in_time, "backs off")
            while not await events(handle, "StepAttemptFailed") and not await events(handle, "StepFailed"):
                await asyncio.sleep(0.01)
            if not (failed := await events(handle, "StepAttemptFailed")):
                continue  # Its first attempt began so late that no retry would have been in time.
            (scheduled,) = await events(handle, "StepScheduled")
            over = scheduled.at_ms + 2 * LIMIT_S * 1_000
            assert failed[0].body["retry_at_ms"] < over
            async with world.down():
                while time.time() * 1_000 < over + 100:
                    await asyncio.sleep(0.05)
            retried = await events(handle, "StepRetried")
            if not retried or retried[0].at_ms >= over:
                break  # Else the engines were still there when the back-off was over.
        assert "schedule_to_close" in await handle.result()
        (ended,) = await events(handle, "StepFailed")
        assert (ended.body["timeout"], ended.body["attempt"]) == ("schedule_to_close", 1)
        assert len(await events(handle, "StepAttemptFailed")) == 1

    world.run(app, scenario)


@pytest.mark.contract("step-outside", "step-heartbeat")
def test_a_word_from_outside_keeps_a_step_alive_and_reaches_its_next_attempt(world: World) -> None:
    """Judged by the log's clock: no attempt ends before its window after the last word is over."""

    async def scenario(client: Client) -> None:
        handle = await client.start(listens)
        key = handle.workflow_id
        while key not in keys:
            await asyncio.sleep(0.01)
        page = 0
        while True:
            page += 1
            try:
                await client.step(keys[key]).heartbeat({"page": page})
            except CommandRejected:
                # The machine stood still for a whole window: the next attempt is awaited.
                await asyncio.sleep(0.05)
                continue
            beats = await events(handle, "StepHeartbeat")
            if beats[-1].at_ms - beats[0].at_ms > 2 * WINDOW_MS:
                break
            await asyncio.sleep(0.1)
        while details[key][-1] != {"page": page}:
            await asyncio.sleep(0.01)
        story = [event async for event in handle.history()]
        failed = [at for at, event in enumerate(story) if event.type == "StepAttemptFailed"]
        for at in failed:
            before = next((one for one in reversed(story[:at]) if one.type == "StepHeartbeat"), None)
            assert before is None or story[at].at_ms - before.at_ms >= WINDOW_MS
        assert details[key][0] is None
        await handle.terminate()

    world.run(app, scenario)
