"""The contract, "Many runs": children, other workflows, cancel and terminate."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from orchestrator import (
    ChildCancelled,
    ChildFailed,
    Client,
    Handle,
    Orchestrator,
    RunCancelled,
    RunParked,
    RunTerminated,
    continue_as_new,
    run_info,
)
from tests.contract.world import World

app = Orchestrator("contract-runs")
go = app.signal("go", int)


@app.error
class Wrong(Exception):
    """What a child may say."""


@app.step
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


@app.step
async def note(what: str) -> str:
    return what


@app.workflow
async def child(how: str) -> str:
    if how == "wrong":
        raise Wrong("by the child")
    if how == "waits":
        return f"got {await go.wait()}"
    return how


@app.workflow
async def counts_down(left: int) -> str:
    """Continues as new until nothing is left."""
    if left:
        await note(str(left))
        continue_as_new(left - 1)
    return f"done by {run_info().workflow_id}"


@app.workflow
async def parent(how: str, policy: str) -> str:
    child_id = f"{run_info().workflow_id}-child"
    call = child.options(id=child_id, close_policy=policy)(how)  # type: ignore[arg-type]
    if how == "waits":
        task = asyncio.ensure_future(call)
        await nap(0.05)
        try:
            return await asyncio.shield(task) if policy == "terminate" else "left"
        except ChildCancelled:
            return "child cancelled"
    try:
        return await call
    except Wrong as error:
        return f"{error}, {type(error.__cause__).__name__}"


@app.workflow
async def follows(left: int) -> str:
    return await counts_down.options(id=f"{run_info().workflow_id}-down")(left)


@app.workflow
async def cleans_up() -> str:
    """Once it is cancelled it takes a signal, undisturbed."""
    try:
        await go.wait()
    except asyncio.CancelledError:
        await note("put back")
        await note(f"by {await go.wait()}")
        raise
    return "not cancelled"


@app.workflow
async def shields() -> str:
    """Does not let its work be interrupted, and gives up afterwards."""
    work = asyncio.ensure_future(note("finished"))
    try:
        await asyncio.shield(go.wait())
    except asyncio.CancelledError:
        return f"{await work} all the same"
    return "not cancelled"


@app.workflow
async def signals(workflow_id: str) -> None:
    go.send(workflow_id, 9)
    await nap(0.01)


async def status(handle: Handle[str]) -> str:
    """Of a run."""
    return (await handle.describe()).status


async def until(handle: Handle[str], wanted: str) -> None:
    """Wait for a status."""
    while await status(handle) != wanted:
        await asyncio.sleep(0.02)


@pytest.mark.contract("child-errors")
def test_a_child_answers_its_parent(world: World) -> None:
    async def scenario(client: Client) -> None:
        assert await client.execute(parent, "fine", "terminate") == "fine"
        assert await client.execute(parent, "wrong", "terminate") == f"by the child, {ChildFailed.__name__}"

    world.run(app, scenario)


@pytest.mark.contract("child-policy")
@pytest.mark.parametrize(("policy", "ends"), [("abandon", "running"), ("request_cancel", "cancelled")])
def test_what_becomes_of_a_child_whose_parent_closed(world: World, policy: str, ends: str) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(parent, "waits", policy)
        assert await handle.result() == "left"
        left = client.handle(child, f"{handle.workflow_id}-child")
        if ends == "running":
            await left.signal(go, 3)
            assert await left.result() == "got 3"
        else:
            await until(left, ends)

    world.run(app, scenario)


@pytest.mark.contract("child-policy", "terminate")
def test_a_terminated_parent_takes_its_child_along(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(parent, "waits", "terminate")
        left = client.handle(child, f"{handle.workflow_id}-child")
        while True:
            kinds = [event.type async for event in handle.history()]
            if "ChildStarted" in kinds:
                break
            await asyncio.sleep(0.02)
        await handle.terminate()
        with pytest.raises(RunTerminated):
            await handle.result()
        await until(left, "terminated")

    world.run(app, scenario)


@pytest.mark.contract("child-continue")
def test_a_parent_follows_its_childs_continuations(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(follows, 3)
        assert await handle.result() == f"done by {handle.workflow_id}-down"

    world.run(app, scenario)


@pytest.mark.contract("start-follows")
def test_a_result_follows_continue_as_new(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(counts_down, 3)
        assert await client.handle(counts_down, handle.workflow_id).result() == f"done by {handle.workflow_id}"

    world.run(app, scenario)


@pytest.mark.contract("other-runs")
def test_a_signal_to_another_workflow(world: World) -> None:
    async def scenario(client: Client) -> None:
        waits = await client.start(child, "waits")
        await client.execute(signals, waits.workflow_id)
        assert await waits.result() == "got 9"

    world.run(app, scenario)


@pytest.mark.contract("cancel")
def test_a_cancelled_run_may_clean_up(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(cleans_up)
        await handle.using(command_id="one").cancel()
        while (await handle.describe()).steps_done != 1:
            await asyncio.sleep(0.02)
        # While it cleans up: somebody else's, and the first one again.
        await handle.using(command_id="another").cancel()
        await handle.using(command_id="one").cancel()
        await handle.signal(go, 5)
        with pytest.raises(RunCancelled):
            await handle.result()
        kinds = [event.type async for event in handle.history()]
        assert kinds.count("CancelRequested") == 1
        assert kinds.count("StepCompleted") == 2

    world.run(app, scenario)


@pytest.mark.contract("cancel")
def test_a_run_may_answer_a_cancellation_with_a_result(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(shields)
        await handle.cancel()
        assert await handle.result() == "finished all the same"

    world.run(app, scenario)


@pytest.mark.contract("terminate")
def test_a_terminated_run_gets_no_word(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(cleans_up)
        await handle.using(reason="enough").terminate()
        with pytest.raises(RunTerminated, match="enough"):
            await handle.result()
        assert "StepScheduled" not in [event.type async for event in handle.history()]

    world.run(app, scenario)


@app.workflow
async def forgets() -> None:
    await go.wait()


@app.workflow
async def impatient(how: str) -> str:
    """A child has the options of a start."""
    if how == "in time":
        call = forgets.options(run_timeout=timedelta(milliseconds=200))()
    elif how == "late":
        call = nothing.options(start_delay=timedelta(milliseconds=200))()
    else:
        call = nothing.options(id="taken", reuse="reject")()
    try:
        await call
    except (ChildFailed, TimeoutError) as error:
        return str(error)
    return "done"


@app.workflow
async def nothing() -> None:
    """A run that ends in its first turn."""


@pytest.mark.contract("child-errors")
def test_a_child_is_started_as_its_options_say(world: World) -> None:
    async def scenario(client: Client) -> None:
        assert "run time-out" in await client.execute(impatient, "in time")
        late = await client.start(impatient, "late")
        assert await late.result() == "done"
        (scheduled,) = [event async for event in late.history() if event.type == "ChildScheduled"]
        # By the child's own history: another partition's clock does not compare with it.
        child = client.handle(nothing, scheduled.body["child_workflow_id"])
        started, ended = [
            event.at_ms async for event in child.history() if event.type in ("RunStarted", "RunCompleted")
        ]
        assert ended - started >= 200
        await client.execute(nothing.options(id="taken"))
        assert "reject" in await client.execute(impatient, "again")

    world.run(app, scenario)


@app.workflow
async def confused() -> None:
    await nothing.options(id="taken", conflict="use_existing")()


@pytest.mark.contract("child-errors")
def test_a_run_that_is_open_already_becomes_nobodys_child(world: World) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(RunParked, match="nobody's new child"):
            await client.execute(confused)

    world.run(app, scenario)
