"""The contract, sagas: what was done is undone in reverse, each durable, and no cancellation reaches it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from orchestrator import Client, CompensationFailed, Handle, Orchestrator, RetryPolicy, RunCancelled, Saga
from tests.contract.world import World

app = Orchestrator("contract-sagas")
go_on = app.signal("go_on", bool)
held = threading.Event()
"""While it is set, nothing is undone to its end."""


@app.error
class SoldOut(Exception):
    """What a trip may end with."""


@app.step
async def book(what: str) -> str:
    if what == "flight":
        raise SoldOut(what)
    return f"{what}, booked"


@app.step(retry=RetryPolicy(max_attempts=1))
async def cancel(what: str) -> None:
    if what.startswith("never"):
        raise SoldOut(what)
    while held.is_set():
        await asyncio.sleep(0.01)


@app.workflow
async def trip(whats: list[str]) -> str:
    async with Saga() as saga:
        for what in whats:
            await saga.do(book(what), cancel)
        await go_on.wait()
        return "travelled"


@app.workflow
async def undone_by_hand(whats: list[str]) -> str:
    """Its compensations wait for a word, so that the world may change meanwhile."""

    async def after_a_word(what: str) -> None:
        await go_on.wait()
        await cancel(what)

    async with Saga() as saga:
        await asyncio.gather(*(saga.do(book(what), after_a_word) for what in whats))
        await book("flight")
        return "travelled"


async def undone(handle: Handle[str]) -> list[str]:
    """What was undone, in that order, and completely."""
    scheduled: dict[str, str] = {}
    found = []
    async for event in handle.history():
        body = event.raw["body"]
        if event.type == "StepScheduled" and body["name"] == "cancel":
            scheduled[f"{body['path']}:{body['n']}"] = body["arguments"]["what"]
        elif event.type in ("StepCompleted", "StepFailed") and body["step"] in scheduled:
            found.append(scheduled[body["step"]])
    return found


@pytest.mark.contract("step-saga")
def test_a_failure_undoes_in_reverse(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(trip, ["room", "car", "flight"])
        with pytest.raises(SoldOut, match="flight"):
            await handle.result()
        assert await undone(handle) == ["car, booked", "room, booked"]

    world.run(app, scenario)


@pytest.mark.contract("step-saga")
def test_nothing_is_undone_when_all_is_well(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(trip, ["room"])
        await handle.signal(go_on, True)
        assert await handle.result() == "travelled"
        assert await undone(handle) == []

    world.run(app, scenario)


@pytest.mark.contract("step-saga", "cancel")
def test_a_cancellation_undoes_and_a_second_one_does_not_stop_that(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(trip, ["room", "car"])
        while not [event async for event in handle.history() if event.type == "StepCompleted" and event.seq > 4]:
            await asyncio.sleep(0.02)
        held.set()
        try:
            await handle.cancel()
            await handle.using(command_id="another").cancel()
        finally:
            held.clear()
        with pytest.raises(RunCancelled):
            await handle.result()
        assert await undone(handle) == ["car, booked", "room, booked"]

    world.run(app, scenario)


@pytest.mark.contract("step-saga")
def test_compensations_survive_a_restart_and_a_cancellation_meanwhile(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(undone_by_hand, ["room", "car"])
        while not [event async for event in handle.history() if event.type == "StepFailed"]:
            await asyncio.sleep(0.02)
        await handle.signal(go_on, True)
        await world.restart()
        await handle.cancel()
        await handle.signal(go_on, True)
        with pytest.raises(RunCancelled):
            await handle.result()
        assert sorted(await undone(handle)) == ["car, booked", "room, booked"]

    world.run(app, scenario)


@pytest.mark.contract("step-saga")
def test_a_compensation_that_fails_is_named_and_stops_no_other(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(trip, ["room", "never", "flight"])
        with pytest.raises(CompensationFailed, match=r"cancel: SoldOut: never.*the others ran"):
            await handle.result()
        assert await undone(handle) == ["never, booked", "room, booked"]

    world.run(app, scenario)
