"""What is seen of a run: where it comes from, what it has begun, and the signals that its code has not taken."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from orchestrator import Client, Handle, Orchestrator, continue_as_new, run_info
from orchestrator.client.calls import HISTORY_PAGE
from orchestrator.client.views import RunDescription
from tests.contract.world import World

pytestmark = pytest.mark.contract("relatives")

app = Orchestrator("relatives")
go = app.signal("go", int)
other = app.signal("other", int)


@app.error
class Wrong(Exception):
    pass


@app.step
async def nothing() -> None:
    pass


@app.workflow
async def child(how: str) -> str:
    if how == "fails":
        raise Wrong(how)
    if how == "waits":
        await go.wait()
    return how


@app.workflow
async def parent(rounds: int) -> str:
    here = f"{run_info().workflow_id}-{rounds}"
    await child.options(id=f"{here}-fine")("fine")
    with contextlib.suppress(Wrong):
        await child.options(id=f"{here}-fails")("fails")
    if rounds:
        continue_as_new(rounds - 1)
    return await child.options(id=f"{here}-waits")("waits")


@app.workflow
async def listens() -> int:
    await nothing()
    return await go.wait()


@app.workflow
async def sleepers(again: bool) -> None:
    """More events than a page of a history holds, in few turns."""
    asleep = [asyncio.ensure_future(asyncio.sleep(3600)) for _ in range(HISTORY_PAGE + 10)]
    await go.wait()
    assert not any(one.done() for one in asleep)
    if again:
        continue_as_new(False)


async def seen(handle: Handle[Any], holds: Any) -> RunDescription:
    """Look at it until it is as wanted."""
    while not holds(found := await handle.describe()):
        await asyncio.sleep(0.02)
    return found


def test_parent_children_and_the_runs_before_and_after(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(parent.options(id="p"), 1)
        newest = client.handle(parent, "p")
        found = await seen(newest, lambda run: len(run.children) == 3 and run.children[-1].run_id)
        assert [(one.workflow_id, one.workflow_type, one.status) for one in found.children] == [
            ("p-0-fine", "child", "completed"),
            ("p-0-fails", "child", "failed"),
            ("p-0-waits", "child", "open"),
        ]
        assert (found.parent, found.previous_run_id, found.next_run_id) == (None, handle.run_id, "")
        first = await client.handle(parent, "p", run_id=handle.run_id).describe()
        assert (first.previous_run_id, first.next_run_id, first.status) == ("", found.run_id, "continued_as_new")
        below = await client.handle(child, "p-0-waits").describe()
        assert below.parent == ("p", found.run_id, found.children[-1].step)
        assert below.run_id == found.children[-1].run_id
        await client.handle(child, "p-0-waits").signal(go, 1)
        assert await newest.result() == "waits"
        assert (await newest.describe()).children[-1].status == "completed"

    world.run(app, scenario)


def test_a_fork_and_what_it_was_forked_from(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(listens.options(id="f"))
        await seen(handle, lambda run: run.steps_done == 1)
        await handle.fork(step="nothing")
        made = await client.handle(listens, "f").describe()
        assert (made.previous_run_id, made.forked_upto > 0) == (handle.run_id, True)
        old = await client.handle(listens, "f", run_id=handle.run_id).describe()
        assert [(fork.run_id, fork.upto) for fork in old.forks] == [(made.run_id, made.forked_upto)]
        started, *_ = [event async for event in client.handle(listens, "f").history()]
        assert (started.body["previous_run_id"], started.body["forked_upto"]) == (handle.run_id, made.forked_upto)

    world.run(app, scenario)


def test_a_history_of_many_pages_is_read_from_any_event_on(world: World) -> None:
    """And is one run's, although the id has another one before the second page is asked for."""

    async def scenario(client: Client) -> None:
        handle, newest = await client.start(sleepers.options(id="h"), True), client.handle(sleepers, "h")
        await seen(handle, lambda run: run.seq > HISTORY_PAGE)
        pages = newest.history()
        whole = [await anext(pages) for _ in range(HISTORY_PAGE)]
        await handle.signal(go, 1)
        await seen(newest, lambda run: run.run_id != handle.run_id)
        whole += [event async for event in pages]
        assert [event.seq for event in whole] == [*range(1, len(whole) + 1)]
        assert (whole[0].type, whole[-1].type) == ("RunStarted", "RunContinuedAsNew")
        await world.restart()
        for seq in (1, HISTORY_PAGE, HISTORY_PAGE + 1, HISTORY_PAGE + 2, len(whole), len(whole) + 1):
            assert [event async for event in handle.history(from_seq=seq)] == whole[seq - 1 :]

    world.run(app, scenario)


def test_signals_that_nobody_took(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(listens.options(id="s"))
        await handle.signal(other, 1)
        await handle.using(command_id="second").signal(other, 2)
        found = await seen(handle, lambda run: run.steps_done == 1)
        assert found.untaken_signals is not None
        assert [(one.name, one.id == "second") for one in found.untaken_signals] == [("other", False), ("other", True)]
        await world.restart()
        again = await handle.describe()
        assert again.untaken_signals == found.untaken_signals
        await handle.pause()
        await handle.signal(go, 7)
        paused = await handle.describe()
        assert [one.name for one in paused.untaken_signals or ()] == ["other", "other", "go"]
        await handle.resume()
        assert await handle.result() == 7
        assert (await handle.describe()).untaken_signals == ()

    world.run(app, scenario)
