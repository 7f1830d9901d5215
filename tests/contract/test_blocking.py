"""What the blocking client has, it has as the async one does: lists, approvals, limits and schedules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator import Client, Orchestrator, Schedule, approval
from orchestrator.client.blocking import BlockingClient
from tests.contract.world import World

app = Orchestrator("contract-blocking")
amount = app.attribute("amount", int)
narrow = app.limit("narrow", concurrency=1)


@app.workflow
async def asks(number: int) -> str:
    answer = await approval("deploy", {"number": number}, to="ops")
    return f"{answer.outcome} by {answer.by}"


@app.workflow(limits=[narrow])
async def alone() -> str:
    return (await approval("alone")).outcome


@app.workflow
async def quick() -> int:
    return 1


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    while not holds():
        time.sleep(0.02)


def in_lists_and_approvals(client: BlockingClient) -> None:
    runs = [client.start(asks.options(attributes=[amount.of(number)]), number) for number in range(3)]
    wanted = [runs[number].run_id for number in (1, 2)]
    assert sorted(run.run_id for run in client.runs(where=[amount.where(">=", 1)])) == sorted(wanted)
    assert len(client.runs("running", "asks", 2)) == 2
    until(lambda: len(client.approvals.list(name="deploy", to="ops")) == 3)
    by_run = {one.run_id: one for one in client.approvals.list()}
    one, other, _ = (by_run[run.run_id] for run in runs)
    assert client.approvals.describe(one.id) == one
    client.approvals.approve(one.id, one.digest, by="eva")
    client.approvals.reject(other.id, other.digest, by="bob")
    assert [run.result() for run in runs[:2]] == ["approved by eva", "rejected by bob"]


def in_limits(client: BlockingClient) -> None:
    runs = [client.start(alone) for _ in range(2)]
    until(lambda: [(one.held, one.waiting) for one in client.limits.list()] == [(1, 1)])
    assert len(client.limits.describe("narrow").holders) == 1
    for _ in runs:
        until(lambda: bool(client.approvals.list(name="alone")))
        (asked,) = client.approvals.list(name="alone")
        client.approvals.approve(asked.id, asked.digest)
        client.handle(alone, asked.workflow_id).result()
    assert [run.result() for run in runs] == ["approved"] * 2


def in_schedules(client: BlockingClient) -> None:
    made = client.schedules.create("hourly", Schedule(every=timedelta(hours=1), paused=True), quick)
    assert [one.id for one in client.schedules.list()] == ["hourly"]
    same = client.using(reason="now").schedules.handle("hourly")
    assert same.describe().paused
    same.resume("on")
    made.pause("off")
    assert (made.describe().paused, made.describe().note) == (True, "off")
    made.trigger()
    until(lambda: made.describe().started == 1)
    made.delete()
    assert client.schedules.list() == []


@pytest.mark.parametrize("work", [in_lists_and_approvals, in_limits, in_schedules])
def test_the_same_without_await(world: World, work: Callable[[BlockingClient], None]) -> None:
    async def scenario(_: Client) -> None:
        def blocking() -> None:
            assert world.ground is not None
            with BlockingClient.connect(app, transport=world.ground.transport()) as client:
                work(client)

        await asyncio.to_thread(blocking)

    world.run(app, scenario)
