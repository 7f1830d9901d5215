"""The contract, "Many runs": batching. What is sent one by one is worked on together."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Client, Handle, Orchestrator, RunParked, continue_as_new
from orchestrator.core import events as e
from tests.contract.forced import POINTS, Halted, KeptBack, kinds, met_at_last, of_kind, until
from tests.contract.world import World

pytestmark = pytest.mark.usefixtures("held")

LONG_S = 600.0


class Batching:
    """The application of one test."""

    def __init__(self) -> None:
        app = self.app = Orchestrator("contract-batching")
        item = self.item = app.signal("item", int)

        @app.workflow
        async def collects(total: int, size: int, within_s: float, done: list[list[int]]) -> list[list[int]]:
            """Each batch in a run of its own; the last one gives them all."""
            done = [*done, await item.batch(size, within=timedelta(seconds=within_s))]
            if sum(map(len, done)) < total:
                continue_as_new(total, size, within_s, done)
            return done

        @app.workflow
        async def gives_up() -> list[int]:
            """Cancelled while it collects, it takes what it had one by one."""
            try:
                return await item.batch(10, within=timedelta(seconds=LONG_S))
            except asyncio.CancelledError:
                return [await item.wait(), await item.wait()]

        @app.workflow
        async def nothing() -> list[int]:
            return await item.batch(0, within=timedelta(seconds=1))

        self.collects, self.gives_up, self.nothing = collects, gives_up, nothing

    async def send(self, client: Client, key: str, number: int, *how: Any) -> Handle[list[list[int]]]:
        """One item for a key's batch; `how` is for the key's first."""
        return await client.start(self.collects.options(id=key).with_signal(self.item, number), *how, [])


@pytest.fixture
def batching() -> Batching:
    return Batching()


@pytest.mark.contract("flow-batch")
def test_a_batch_is_bounded_by_size_and_by_time_and_each_key_has_its_own(world: World, batching: Batching) -> None:
    async def scenario(client: Client) -> None:
        many = (5, 2, 0.1)
        async with KeptBack(world, "many") as kept:
            said = await kept.then("many", *(batching.send(client, "many", number, *many) for number in range(5)))
        few = await batching.send(client, "few", 9, 1, 100, 0.1)
        assert await few.result() == [[9]]
        assert await (await said[0]).result() == [[0, 1], [2, 3], [4]]
        # The last one waited for its time; the others did not.
        assert kinds(world, "many").count("TimerFired") == kinds(world, "few").count("TimerFired") == 1

    world.run(batching.app, scenario)


@pytest.mark.contract("flow-batch")
def test_a_batch_goes_on_after_a_restart_and_takes_each_id_once(world: World, batching: Batching) -> None:
    async def scenario(client: Client) -> None:
        for _ in range(2):
            await batching.send(client.using(command_id="first"), "w", 1, 2, 2, LONG_S)
        await world.restart()
        handle = await batching.send(client.using(command_id="second"), "w", 2, 2, 2, LONG_S)
        assert await handle.result() == [[1, 2]]

    world.run(batching.app, scenario)


@pytest.mark.contract("flow-batch", "time-race")
def test_the_next_value_and_the_end_of_a_batchs_time_in_one_batch_of_the_log(world: World, batching: Batching) -> None:
    """Time is decided first: what came with it is the next batch's."""

    async def scenario(client: Client) -> None:
        async def meet(name: str) -> bool:
            async with Halted(world, name, e.TimerSet) as halted:
                first = asyncio.ensure_future(batching.send(client, name, 1, 2, 10, 0.2))
                await halted.reached()
                await halted.then(batching.send(client, name, 2, 2, 10, 0.2))
                await halted.due(e.TimerSet, lambda event: event.body.due_at_ms)
                halted.go_on()
            assert await (await first).result() == [[1], [2]]
            return of_kind(world, name, e.TimerFired)[0][0] == of_kind(world, name, e.SignalReceived)[1][0]

        await met_at_last(world, meet)

    world.run(batching.app, scenario)


@pytest.mark.contract("flow-batch", "continue-as-new")
def test_a_value_that_meets_the_end_of_a_batch_is_in_the_next_one(world: World, batching: Batching) -> None:
    """It comes while the turn that takes the last one of a full batch is in flight: committed, lost, or unseen."""

    async def scenario(client: Client) -> None:
        for how in POINTS:
            handle = await batching.send(client, how, 1, 4, 2, LONG_S)
            async with Halted(world, how, e.RunContinuedAsNew, how) as halted:
                second = asyncio.ensure_future(batching.send(client, how, 2, 4, 2, LONG_S))
                await halted.reached()
                both = await halted.then(*(batching.send(client, how, number, 4, 2, LONG_S) for number in (3, 4)))
                halted.go_on()
            await asyncio.gather(second, *both)
            assert await handle.result() == [[1, 2], [3, 4]]

    world.run(batching.app, scenario)


@pytest.mark.contract("flow-batch")
def test_who_is_cancelled_while_it_collects_has_taken_nothing(world: World, batching: Batching) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(batching.gives_up.options(id="w"))
        for number in (1, 2):
            await handle.signal(batching.item, number)
        await until(lambda: kinds(world, "w").count("SignalReceived") == 2)
        await handle.cancel()
        assert await handle.result() == [1, 2]
        with pytest.raises(RunParked, match="at least one value"):
            await client.execute(batching.nothing)

    world.run(batching.app, scenario)
