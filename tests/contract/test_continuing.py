"""The contract, "Many runs": what goes on with a run that continues as new, and whom a cancellation reaches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator import (
    ChildCancelled,
    ChildFailed,
    Client,
    Handle,
    Orchestrator,
    RunCancelled,
    RunTerminated,
    continue_as_new,
    external_workflow,
    run_info,
    signal,
)
from orchestrator.core import events as e
from tests.contract import forced
from tests.contract.world import CODEC, World

app = Orchestrator("contract-continuing")
item = app.signal("item", int)
go = app.signal("go", int)


@app.step
async def note(what: str) -> str:
    return what


@app.step
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


@app.workflow
async def one_a_run(found: list[int], count: int, every: int) -> list[int]:
    """Takes `every` items and goes on as the next run, whatever else has come."""
    taken = [*found, *[await item.wait() for _ in range(every)]]
    if len(taken) < count:
        continue_as_new(taken, count, every)
    return taken


class Inbox:
    """The class form: a handler takes what comes; the others are kept for a wait."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @app.run
    async def run(self, before: list[str], rounds: int) -> list[str]:
        self.lines = before
        number = await go.wait()
        self.lines.append(f"go {number}")
        if rounds:
            continue_as_new(self.lines, rounds - 1)
        return self.lines

    @signal
    def told(self, line: str) -> None:
        self.lines.append(line)


async def kinds(handle: Handle[object]) -> list[str]:
    """Of the events of a run."""
    return [event.type async for event in handle.history()]


async def refused(handle: Handle[Any]) -> list[tuple[str, str]]:
    """Code and command of what was refused, once a look at the run shows it: readers of the log see it before."""
    while not (found := [(one.code, one.command_id) async for one in handle.rejections()]):
        await asyncio.sleep(0.02)
    return found


@pytest.mark.contract("continue-as-new", "signal-kept", "signal-once")
@pytest.mark.parametrize("every", [1, 3])
def test_signals_that_nobody_took_go_on_in_their_order(world: World, every: int) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(one_a_run, [], 12, every)
        newest = client.handle(one_a_run, first.workflow_id)
        # Some come before the run looks, some while it goes on as another one, some to the run that it was.
        await asyncio.gather(*(newest.using(command_id=f"s{n}").signal(item, n) for n in range(6)))
        for n in range(6, 12):
            await first.using(command_id=f"s{n}").signal(item, n)
            await first.using(command_id=f"s{n}").signal(item, n)
        found = await first.result()
        assert sorted(found) == list(range(12))
        assert found[6:] == list(range(6, 12))

    world.run(app, scenario)


@pytest.mark.contract("continue-as-new")
def test_what_was_kept_is_in_the_history_of_the_next_run(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(one_a_run, [], 4, 2)
        await handle.pause()
        for n in range(4):
            await handle.signal(item, n)
        await world.restart()
        await handle.resume()
        assert await handle.result() == [0, 1, 2, 3]
        last = client.handle(one_a_run, handle.workflow_id)
        assert (await kinds(last))[:3] == ["RunStarted", "SignalReceived", "SignalReceived"]

    world.run(app, scenario)


@pytest.mark.contract("continue-as-new")
def test_a_handler_gets_what_came_too_late_for_the_run_before(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(Inbox.run, [], 1)
        await handle.pause()
        await handle.signal(Inbox.told, "a")
        await handle.signal(go, 1)
        await handle.signal(Inbox.told, "b")
        await handle.signal(go, 2)
        await handle.resume()
        assert await handle.result() == ["a", "go 1", "b", "go 2"]

    world.run(app, scenario)


@app.workflow
async def again_and_again(number: int) -> None:
    """Never ends by itself."""
    await note(str(number))
    continue_as_new(number + 1)


@app.workflow
async def stops_its_child(child_id: str) -> str:
    task = asyncio.ensure_future(again_and_again.options(id=child_id, close_policy="abandon")(0))
    await nap(0.2)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        await nap(0.01)
    return "left"


async def until(handle: Handle[None], wanted: str) -> None:
    """Wait for a status."""
    while (await handle.describe()).status != wanted:
        await asyncio.sleep(0.02)


@pytest.mark.contract("child-continue")
def test_a_cancel_reaches_whatever_run_the_child_is_by_then(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(stops_its_child.options(id="p"), "p-child")
        assert await handle.result() == "left"
        await until(client.handle(again_and_again, "p-child"), "cancelled")

    world.run(app, scenario)


@pytest.mark.contract("child-continue", "start-follows")
@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_a_handle_of_the_first_run_reaches_the_newest(world: World, how: str) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(again_and_again, 0)
        while (await handle.describe()).status != "continued_as_new":
            await asyncio.sleep(0.02)
        await (handle.cancel() if how == "cancel" else handle.terminate())
        await until(
            client.handle(again_and_again, handle.workflow_id), f"{how}led" if how == "cancel" else "terminated"
        )

    world.run(app, scenario)


@app.workflow
async def takes_a_signal() -> int:
    return await go.wait()


@app.workflow
async def has_one_that_stays(child_id: str) -> int:
    return await takes_a_signal.options(id=child_id, close_policy="abandon")()


@pytest.mark.contract("child-outcome", "child-policy")
def test_the_outcome_of_a_child_whose_parent_has_ended_is_refused_on_the_record(world: World) -> None:
    async def scenario(client: Client) -> None:
        parent = await client.start(has_one_that_stays.options(id="left"), "stays")
        while "ChildStarted" not in await kinds(parent):
            await asyncio.sleep(0.02)
        await parent.terminate()
        child = client.handle(takes_a_signal, "stays")
        await child.signal(go, 3)
        assert await child.result() == 3
        (event,) = await world.refused("left")
        assert isinstance(event.body, e.CommandRejected)
        assert (event.body.command, event.body.code, event.run_id) == ("ReportChild", "stale_attempt", parent.run_id)
        assert await refused(parent) == [("stale_attempt", event.cause.command_id)]
        assert (await kinds(parent))[-1] == "RunTerminated"

    world.run(app, scenario)


@app.workflow
async def goes_on_without(child_id: str, policy: str) -> str:
    """Goes on as a new run while its child is open."""
    if child_id:
        call = takes_a_signal.options(id=child_id, close_policy=policy)()  # type: ignore[arg-type]
        told = asyncio.ensure_future(go.wait())
        await asyncio.wait([asyncio.ensure_future(call), told], return_when=asyncio.FIRST_COMPLETED)
        continue_as_new("", policy)
    return f"and then {await go.wait()}"


@pytest.mark.contract("child-policy", "child-outcome")
@pytest.mark.parametrize(
    ("policy", "ends"), [("terminate", RunTerminated), ("request_cancel", RunCancelled), ("abandon", None)]
)
def test_what_becomes_of_a_child_whose_parent_goes_on_as_a_new_run(
    world: World, policy: str, ends: type[Exception] | None
) -> None:
    """The new run is not its parent: it gets neither the child nor its outcome, which is refused, on record."""

    async def scenario(client: Client) -> None:
        first = await client.start(goes_on_without.options(id="p"), "c", policy)
        while "ChildStarted" not in await kinds(first):
            await asyncio.sleep(0.02)
        left, newest = client.handle(takes_a_signal, "c"), client.handle(goes_on_without, "p")
        await first.signal(go, 1)
        while (await newest.describe()).run_id == first.run_id:
            await asyncio.sleep(0.02)
        # What a close policy asks for left with the commit that closed the run: it came before this signal.
        if ends is None:
            await left.signal(go, 3)
            assert await left.result() == 3
            assert "CancelRequested" not in await kinds(left)
        else:
            with pytest.raises(ends):
                await left.result()
            assert ("CancelRequested" in await kinds(left)) == (policy == "request_cancel")
        while "CommandRejected" not in forced.kinds(world, "p"):
            await asyncio.sleep(0.02)
        ((_, refused),) = forced.of_kind(world, "p", e.CommandRejected)
        assert refused.body.code == "stale_attempt"
        await newest.signal(go, 2)
        assert await newest.result() == "and then 2"
        assert not {"ChildCompleted", "ChildFailed", "ChildCancelled"} & set(await kinds(newest))

    world.run(app, scenario)


@app.workflow
async def wants_a_taken_id(taken: str, cancels: bool) -> str:
    """Its child's start is refused; what it does to its child is none of the other run's business."""
    task = asyncio.ensure_future(takes_a_signal.options(id=taken)())
    await asyncio.sleep(0)
    if not cancels:
        return "left"
    task.cancel()
    try:
        await task
    except (asyncio.CancelledError, ChildCancelled, ChildFailed):
        await nap(0.05)
    return "cancelled"


@pytest.mark.contract("child-continue", "child-policy")
@pytest.mark.parametrize("cancels", [True, False])
def test_a_child_that_never_began_takes_nobody_elses_run_along(world: World, cancels: bool) -> None:
    async def scenario(client: Client) -> None:
        other = await client.start(takes_a_signal.options(id="taken"))
        await client.execute(wants_a_taken_id, "taken", cancels)
        await client.execute(wants_a_taken_id, "free", False)
        await other.signal(go, 3)
        assert await other.result() == 3
        assert "CancelRequested" not in await kinds(other)

    world.run(app, scenario)


@app.step(cancellation="wait")
async def ends_in_its_own_time() -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "ended"
    return "was not asked"


@app.workflow
async def owes(rounds: int) -> str:
    """Takes its step's outcome in the place of the cancellation, and does not await again."""
    if rounds:
        await ends_in_its_own_time()
        continue_as_new(rounds - 1)
    await go.wait()
    return "not cancelled"


@pytest.mark.contract("continue-as-new", "cancel")
def test_a_cancel_that_the_code_has_not_heard_of_goes_on(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(owes, 1)
        while not (await handle.describe()).pending_steps:
            await asyncio.sleep(0.02)
        await handle.cancel()
        newest = client.handle(owes, handle.workflow_id)
        while (await newest.describe()).is_open:
            await asyncio.sleep(0.02)
        assert (await newest.describe()).status == "cancelled"

    world.run(app, scenario)


@app.workflow
async def cleans_up() -> str:
    try:
        return str(await go.wait())
    except asyncio.CancelledError:
        await note("put back")
        raise


@app.workflow
async def speaks(target: str, what: str) -> str:
    """To another workflow; what it asks leaves once, whatever is replayed."""
    other = external_workflow(target)
    if what == "cancel":
        other.cancel("no longer wanted")
    elif what == "signal":
        other.signal(go, 5)
    else:
        other.signal(Inbox.told, "from afar")
        other.signal(go, 7)
    await nap(0.01)
    return "said"


@pytest.mark.contract("other-runs")
def test_workflow_code_cancels_another_workflow(world: World) -> None:
    async def scenario(client: Client) -> None:
        other = await client.start(cleans_up)
        speaker = await client.start(speaks, other.workflow_id, "cancel")
        await world.restart()
        assert await speaker.result() == "said"
        with pytest.raises(RunCancelled):
            await other.result()
        events = [event async for event in other.history()]
        asked = [event for event in events if event.type == "CancelRequested"]
        assert [event.body["reason"] for event in asked] == ["no longer wanted"]
        assert asked[0].body["actor"]["id"] == f"{speaker.workflow_id}/{speaker.run_id}"
        assert "StepCompleted" in [event.type for event in events]
        assert (await kinds(speaker)).count("CancelSent") == 1

    world.run(app, scenario)


@pytest.mark.contract("other-runs")
def test_a_cancel_of_nobody_is_refused_where_it_arrives(world: World) -> None:
    async def scenario(client: Client) -> None:
        speaker = await client.start(speaks, "nobody", "cancel")
        assert await speaker.result() == "said"
        (event,) = await world.refused("nobody")
        assert isinstance(event.body, e.CommandRejected)
        assert (event.body.command, event.body.code) == ("CancelWorkflow", "not_found")
        # It is known by the event that asked: nobody else sends a command of this id.
        sent = [one.seq async for one in speaker.history() if one.type == "CancelSent"]
        assert event.cause.command_id == f"{speaker.workflow_id}/{speaker.run_id}/{sent[0]}/0"
        assert await refused(client.handle(cleans_up, "nobody")) == [("not_found", event.cause.command_id)]

    world.run(app, scenario)


@pytest.mark.contract("other-runs")
def test_workflow_code_signals_either_form(world: World) -> None:
    async def scenario(client: Client) -> None:
        other = await client.start(cleans_up)
        assert await client.execute(speaks, other.workflow_id, "signal") == "said"
        assert await other.result() == "5"
        inbox = await client.start(Inbox.run, [], 0)
        assert await client.execute(speaks, inbox.workflow_id, "handler") == "said"
        assert await inbox.result() == ["from afar", "go 7"]

    world.run(app, scenario)


@app.workflow
async def as_long_as_it_likes(runs: list[int]) -> list[int]:
    """Goes on as a new run when that is suggested, twice; `runs`: how long each history was by then."""
    while not run_info().continue_as_new_suggested:
        await note("one more")
    runs = [*runs, run_info().history_length]
    if len(runs) < 2:
        continue_as_new(runs)
    return runs


@pytest.mark.contract("long-history", "start-follows")
def test_continue_as_new_is_suggested_at_a_length_that_the_run_keeps(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(as_long_as_it_likes, [])
        found = await handle.result()
        assert [20 <= length < 40 for length in found] == [True, True]
        started = await anext(handle.history())
        assert started.body["suggest_at"] == 20

    world.run(app, scenario, suggest_at=20)


@app.workflow
async def asks_later() -> list[object]:
    """Before and after its engine got another setting."""
    said: list[object] = [run_info().continue_as_new_suggested]
    for _ in range(3):
        await note("more")
    await go.wait()
    return [*said, run_info().continue_as_new_suggested]


@pytest.mark.contract("long-history")
def test_another_setting_changes_nothing_for_runs_that_are_open(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(asks_later)
        world._options["suggest_at"] = 1
        await world.restart()
        await handle.signal(go, 1)
        assert await handle.result() == [False, False]
        later = await client.start(asks_later)
        await later.signal(go, 1)
        assert await later.result() == [True, True]

    world.run(app, scenario)


@app.workflow
async def stays(steps: int) -> int:
    """Does not do what is suggested."""
    told = 0
    for number in range(steps):
        await note(f"{number:04}")
        told += run_info().continue_as_new_suggested
    return told


@pytest.mark.contract("long-history")
def test_a_long_history_ends_nothing_and_a_step_costs_what_the_first_one_did(world: World) -> None:
    """Far beyond what is suggested: as many events, and as many bytes on the log, for the last steps as for the first.

    That a step takes no longer either is the benchmark's and `make walls`' to say, by the clock.
    """
    steps = 400

    async def scenario(client: Client) -> None:
        handle = await client.start(stays.options(id="long"), steps)
        assert await handle.result() >= steps - 20
        assert world.ground is not None
        records = world.ground.records("events")[forced.home(world, "long")]
        mine = [one for one in records if one.key == b"long"]
        story = [CODEC.decode_event(one.key, one.value).event.body for one in mine]
        done = [at for at, body in enumerate(story) if isinstance(body, e.StepCompleted)]
        assert len(done) == steps

        def cost(first: int, last: int) -> tuple[int, int]:
            between = mine[done[first] : done[last]]
            return len(between), sum(len(one.value) for one in between)

        (events, size), (later_events, later_size) = cost(20, 120), cost(steps - 101, steps - 1)
        assert later_events <= events * 1.1
        assert later_size <= size * 1.1

    world.run(app, scenario, suggest_at=20)
