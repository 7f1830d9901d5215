"""The contract, "Talking to a run": signals and queries."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import Client, CommandRejected, Handle, Orchestrator, ReplyTimeout, RunClosed, Signal, continue_as_new
from orchestrator.core.commands import Command, SignalWorkflow
from orchestrator.core.values import Payload
from orchestrator.log.partitioner import partition_of
from tests.contract.world import CODEC, World

app = Orchestrator("contract-talking")
item = app.signal("item", int)
late = app.signal("late", str)
total = app.query("total", int)
grow = app.query("grow", int)


@app.step
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


@app.workflow
async def collects(count: int) -> list[int]:
    """Takes so many items; its first step ends only after some have come."""
    found: list[int] = []
    total.answer(lambda: sum(found))

    def grows() -> int:
        item.send("nobody", 1)
        return 0

    grow.answer(grows)
    await nap(0.2)
    while len(found) < count:
        found.append(await item.wait())
    return found


@app.workflow
async def takes_late() -> str:
    """Asks for its signal long after it came."""
    await nap(0.3)
    return await late.wait()


@app.workflow
async def ends() -> int:
    return 1


@pytest.mark.contract("signal-order", "signal-kept")
def test_signals_come_in_order_and_are_kept_until_taken(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 20)
        for number in range(20):
            await handle.signal(item, number)
        assert await handle.result() == list(range(20))

    world.run(app, scenario)


@pytest.mark.contract("signal-durable", "signal-kept")
def test_a_signal_that_came_before_its_waiter_survives_a_restart(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(takes_late)
        await handle.signal(late, "early")
        await world.restart()
        assert await handle.result() == "early"

    world.run(app, scenario)


@pytest.mark.contract("signal-once")
def test_the_same_signal_counts_once(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 2)
        for _ in range(3):
            await handle.using(command_id="once").signal(item, 5)
        await handle.signal(item, 6)
        assert await handle.result() == [5, 6]
        kinds = [event.type async for event in handle.history()]
        assert kinds.count("SignalReceived") == 2

    world.run(app, scenario)


@pytest.mark.contract("signal-durable", "signal-once")
def test_a_time_out_says_nothing_and_the_same_id_again_counts_once(world: World) -> None:
    """Nobody answers: whether the signal will be taken is open, and it may be sent again, before and after."""

    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 2)
        mine = handle.using(command_id="once", timeout=1.0)
        async with world.down():
            with pytest.raises(ReplyTimeout, match="same id"):
                await mine.signal(item, 5)
        await handle.using(command_id="once").signal(item, 5)
        await handle.using(command_id="once").signal(item, 5)
        await world.restart()
        await handle.using(command_id="once").signal(item, 5)
        await handle.signal(item, 6)
        assert await handle.result() == [5, 6]
        received = [event async for event in handle.history() if event.type == "SignalReceived"]
        assert [event.raw["cause"]["command_id"] == "once" for event in received] == [True, False]

    world.run(app, scenario)


@pytest.mark.contract("signal-durable", "signal-order", "signal-closed")
def test_what_a_plain_producer_sends_is_decided_although_it_asks_for_no_answer(world: World) -> None:
    """What Kafka has acknowledged is taken, in its order, or refused on record: nobody hears of it otherwise."""

    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 3)
        send = client.calls.caller._transport.send
        partition = partition_of(handle.workflow_id.encode(), world.mode.partitions)
        acknowledged: list[str] = []

        def tell(number: int) -> None:
            body = SignalWorkflow("item", Payload(data=str(number).encode()))
            value = CODEC.encode_command(Command(f"plain-{number}", handle.workflow_id, body))
            send(partition, handle.workflow_id.encode(), value, acknowledged.append)

        async with world.down():
            for number in range(4):
                tell(number)
            while len(acknowledged) < 4:
                await asyncio.sleep(0.01)
            assert acknowledged == [""] * 4
        found = await handle.result()
        assert found == [0, 1, 2]
        tell(4)
        wanted = {"plain-4"}
        while not wanted <= {event.cause.command_id for event in await world.refused(handle.workflow_id)}:
            await asyncio.sleep(0.05)
        kinds = [event.type async for event in handle.history()]
        refused = [event.cause.command_id for event in await world.refused(handle.workflow_id)]
        assert kinds.count("SignalReceived") + len(refused) == 5
        assert [one.command_id async for one in handle.rejections()] == refused

    world.run(app, scenario)


@pytest.mark.contract("signal-closed")
def test_a_signal_after_close_is_refused_with_a_word(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(ends)
        await handle.result()
        with pytest.raises(RunClosed, match=handle.workflow_id):
            await handle.signal(item, 1)
        with pytest.raises(CommandRejected):
            await client.handle(ends, "never-started").signal(item, 1)

    world.run(app, scenario)


@pytest.mark.contract("signal-closed")
def test_a_signal_of_another_type_is_refused_and_the_run_goes_on(world: World) -> None:
    """From somebody who does not use the application's own objects: on the log it would park the run."""
    words: Signal[str] = Signal("item", str)

    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 2)
        await handle.signal(item, 1)
        with pytest.raises(CommandRejected, match='signal item: "many" is no int') as refused:
            await handle.signal(words, "many")
        assert refused.value.code == "bad_request"
        await world.restart()
        with pytest.raises(CommandRejected, match='"more" is no int'):
            await client.start(
                collects.options(id=handle.workflow_id, conflict="use_existing").with_signal(words, "more"), 2
            )
        # It may be a newer release's.
        await handle.signal(Signal("unknown", str), "kept until code asks for it")
        await handle.signal(item, 2)
        assert await handle.result() == [1, 2]
        assert [event.type async for event in handle.history()].count("SignalReceived") == 3

    world.run(app, scenario)


@pytest.mark.contract("query")
def test_queries_of_running_idle_and_closed_runs(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 2)
        assert await handle.query(total) == 0
        await handle.signal(item, 4)
        while await handle.query(total) != 4:
            await asyncio.sleep(0.02)
        await world.restart()
        assert await handle.query(total) == 4
        await handle.signal(item, 5)
        assert await handle.result() == [4, 5]
        assert await handle.query(total) == 9

    world.run(app, scenario)


@app.workflow
async def changes(again: bool) -> int:
    """Answers from its first turn on, and stands still, or ends, as it is told to."""
    total.answer(lambda: 7 if again else 8)
    what = await item.wait()
    if what == 1:
        raise KeyError("a bug")
    if what == 2 and again:
        continue_as_new(False)
    return what


@pytest.mark.contract("query")
def test_queries_of_runs_that_stand_still_or_ended_otherwise(world: World) -> None:
    """Paused, cancelled, terminated, gone on as a new run: the newest state there was, and nothing is written. Parked:
    its code does not come that far any more, and who asks is told why."""

    async def scenario(client: Client) -> None:
        runs = {name: await client.start(changes.options(id=name), True) for name in ENDS}
        for handle in runs.values():
            assert await handle.query(total) == 7
        await runs["paused"].pause()
        await runs["parked"].signal(item, 1)
        await runs["cancelled"].cancel()
        await runs["terminated"].terminate()
        await runs["continued_as_new"].signal(item, 2)
        for name, handle in runs.items():
            while (await client.handle(changes, name, handle.run_id).describe()).status != name:
                await asyncio.sleep(0.02)
        await world.restart()
        with pytest.raises(CommandRejected, match="parked: KeyError"):
            await runs["parked"].query(total)
        for name in ("paused", "cancelled", "terminated", "continued_as_new"):
            handle = runs[name]
            before = [event.type async for event in handle.history()]
            assert await client.handle(changes, name, handle.run_id).query(total) == 7, name
            assert [event.type async for event in handle.history()] == before
        assert await client.handle(changes, "continued_as_new").query(total) == 8
        for name in ("paused", "parked", "continued_as_new"):
            await client.handle(changes, name).terminate()

    world.run(app, scenario)


ENDS = ("paused", "parked", "cancelled", "terminated", "continued_as_new")


@app.workflow
async def is_tempted(count: int) -> list[list[int]]:
    """Its queries change its variables, each in another way."""
    found, seen, number = [], {"deep": [0]}, 0

    def lists() -> int:
        found.append(99)
        return len(found)

    def deep() -> int:
        seen["deep"].append(99)
        raise ValueError("and fails")

    def counts() -> int:
        nonlocal number
        number += 99
        return number

    for query, answer in zip(TEMPTING, (lists, deep, counts), strict=True):
        query.answer(answer)
    total.answer(lambda: sum(found) + sum(seen["deep"]) + number)
    for _ in range(count):
        found.append(await item.wait())
        number += 1
    return [found, seen["deep"], [number]]


TEMPTING = [app.query(name, int) for name in ("lists", "deep", "counts")]


@pytest.mark.contract("query-changes")
def test_a_query_that_changes_a_variable_raises_and_the_run_never_hears_of_it(world: World) -> None:
    """In memory or not, idle or closed: what the run goes on with is what its history made of it."""

    async def tempted(handle: Handle[list[list[int]]], is_so: int) -> None:
        for query in TEMPTING:
            with pytest.raises(CommandRejected, match=r"would change the run|and fails") as refused:
                await handle.query(query)
            assert refused.value.code == "query_failed"
            assert await handle.query(total) == is_so

    async def scenario(client: Client) -> None:
        handle = await client.start(is_tempted, 2)
        await tempted(handle, 0)
        await handle.signal(item, 5)
        while await handle.query(total) != 6:
            await asyncio.sleep(0.02)
        await tempted(handle, 6)
        await world.restart()
        await tempted(handle, 6)
        await handle.signal(item, 7)
        assert await handle.result() == [[5, 7], [0], [2]]
        await tempted(handle, 14)
        assert "RunParked" not in [event.type async for event in handle.history()]

    world.run(app, scenario)


@pytest.mark.contract("query-changes")
def test_a_query_that_would_change_state_raises(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(collects, 1)
        with pytest.raises(CommandRejected, match="quer") as refused:
            await handle.query(grow)
        assert refused.value.code == "query_failed"
        assert type(refused.value) is CommandRejected
        await handle.signal(item, 1)
        assert await handle.result() == [1]
        assert "SignalSent" not in [event.type async for event in handle.history()]

    world.run(app, scenario)
