"""How each history comes about: what its run is told, in an environment of its own, where time skips."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchestrator import Client, Handle, OrchestratorError
from orchestrator.testing import environment
from tests.histories import app as code

FOLDER = Path(__file__).parent / "recorded"
Scenario = Callable[[Client], Awaitable[Handle[Any]]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(make: Scenario) -> Scenario:
    """One history, in a file of its name."""
    SCENARIOS[make.__name__] = make
    return make


async def to_the_end(handle: Handle[Any]) -> Handle[Any]:
    """Wait for it, whatever it is."""
    with contextlib.suppress(OrchestratorError, code.Declined):
        await handle.result()
    return handle


async def until(handle: Handle[Any], kind: str, count: int = 1) -> None:
    """Wait until the history has so many events of a kind."""
    while [event.type async for event in handle.history()].count(kind) < count:
        await asyncio.sleep(0.01)


@scenario
async def sequence(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.sequence.options(id="sequence"), 4))


@scenario
async def concurrent(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.concurrent.options(id="concurrent"), 4))


@scenario
async def first_wins(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.first_wins.options(id="first_wins")))


@scenario
async def failures(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.failures.options(id="failures")))


@scenario
async def timers(client: Client) -> Handle[Any]:
    options = code.timers.options(id="timers", start_delay=timedelta(minutes=1), run_timeout=timedelta(days=1))
    return await to_the_end(await client.start(options))


@scenario
async def signals(client: Client) -> Handle[Any]:
    handle = await client.start(code.signals.options(id="signals"))
    await handle.signal(code.item, 5)
    await handle.signal(code.item, 6)
    await until(handle, "TimerSet", 3)
    return await to_the_end(handle)


@scenario
async def class_form(client: Client) -> Handle[Any]:
    handle = await client.start(code.Cart.run.options(id="class_form"), "eva")
    await handle.signal(code.Cart.put, "pen")
    await handle.signal(code.Cart.put, "ink")
    while await handle.query(code.Cart.count) < 2:
        await asyncio.sleep(0.01)
    await handle.signal(code.Cart.close)
    return await to_the_end(handle)


@scenario
async def children(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.parent.options(id="children")))


@scenario
async def continued(client: Client) -> Handle[Any]:
    handle = await client.start(code.continues.options(id="continued"), 1)
    await handle.result()
    return handle


@scenario
async def cancelled(client: Client) -> Handle[Any]:
    handle = await client.start(code.cancelled.options(id="cancelled"))
    await until(handle, "StepScheduled")
    await handle.cancel()
    await until(handle, "StepCompleted", 2)
    await handle.terminate()
    return await to_the_end(handle)


@scenario
async def cancelled_to_the_end(client: Client) -> Handle[Any]:
    handle = await client.start(code.child.options(id="cancelled_to_the_end"), "waits")
    await handle.cancel()
    return await to_the_end(handle)


@scenario
async def steps_cancelled(client: Client) -> Handle[Any]:
    handle = await client.start(code.gives_up.options(id="steps_cancelled"))
    for number in (1, 2):
        await until(handle, "StepScheduled", number)
        await handle.signal(code.item, number)
    return await to_the_end(handle)


@scenario
async def saga(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.saga.options(id="saga"), "me"))


@scenario
async def entity(client: Client) -> Handle[Any]:
    counter = client.entity(code.Counter, "here")
    await counter.call(code.Counter.grow, 2)
    return await to_the_end(await counter.send(code.Counter.grow, 3))


@scenario
async def entity_called(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.counts.options(id="entity_called")))


@scenario
async def patches(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.patches.options(id="patches")))


@scenario
async def older_version(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.versions_1.options(id="older_version")))


@scenario
async def newest_version(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.versions.options(id="newest_version")))


@scenario
async def chance(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.chance.options(id="chance")))


@scenario
async def limited(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.limited.options(id="limited"), 3))


@scenario
async def parked_and_resumed(client: Client) -> Handle[Any]:
    handle = await to_the_end(await client.start(code.parks.options(id="parked_and_resumed")))
    await handle.retry()
    return await to_the_end(handle)


@scenario
async def updated(client: Client) -> Handle[Any]:
    handle = await client.start(code.updated.options(id="updated"))
    for by in (1, -1, 13, 7):
        with contextlib.suppress(OrchestratorError, code.Declined):
            await handle.update(code.change, by)
    return await to_the_end(handle)


@scenario
async def forked(client: Client) -> Handle[Any]:
    handle = await to_the_end(await client.start(code.sequence.options(id="forked"), 4))
    return await to_the_end(await handle.fork("0:3", arguments=(5,)))


@scenario
async def annotated(client: Client) -> Handle[Any]:
    options = code.annotated.options(
        id="annotated", memo=[1], attributes=[code.region.of("south")], summary="to be said"
    )
    return await to_the_end(await client.start(options))


@scenario
async def events(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.events.options(id="events")))


@scenario
async def approvals(client: Client) -> Handle[Any]:
    handle = await client.start(code.approvals.options(id="approvals"))
    for answer in (client.approvals.approve, client.approvals.reject):
        while not (inbox := [one async for one in client.approvals.list(name="deploy")]):
            await asyncio.sleep(0.01)
        await answer(inbox[0].id, inbox[0].digest, by="eva", comment="seen")
    return await to_the_end(handle)


@scenario
async def others(client: Client) -> Handle[Any]:
    return await to_the_end(await client.start(code.others.options(id="others")))


async def record(name: str) -> str:
    """The history as `orchestrator workflow history ID -o jsonl` writes it."""
    async with environment(code.app, second_process=False) as client:
        handle = await SCENARIOS[name](client)
        lines = [json.dumps(event.raw) async for event in handle.history()]
    # Tracebacks name files of the machine that recorded.
    return "".join(re.sub(r'File \\"[^"]*/', 'File \\"', line) + "\n" for line in lines)


def missing() -> list[str]:
    """Scenarios without a file."""
    return [name for name in SCENARIOS if not (FOLDER / f"{name}.jsonl").exists()]
