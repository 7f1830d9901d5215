"""Updates: a caller changes a run and gets an answer; a refused one leaves nothing."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from orchestrator import (
    Client,
    CommandRejected,
    Orchestrator,
    RunClosed,
    UpdateFailed,
    UpdateHandle,
    UpdateRejected,
    continue_as_new,
    update,
)
from orchestrator.core import commands as c, events as e
from orchestrator.errors import DoesNotRoundTrip
from tests.contract.forced import Halted, kinds as recorded, of_kind, until
from tests.contract.world import World

app = Orchestrator("updates")
add = app.update("add", int, int)
hold = app.update("hold", str, str)
go = app.signal("go", int)
called: list[str] = []
gates: dict[str, threading.Event] = {}
"""By what they are named: steps run in this process."""


@app.error
class TooMuch(Exception):
    pass


@app.step
async def noted(what: str) -> str:
    called.append(what)
    return f"noted {what}"


@app.workflow
async def sums(most: int) -> int:
    total = 0

    def small(value: int) -> None:
        if value > most:
            raise TooMuch(f"{value} > {most}")
        if value == 0:
            raise ValueError("nothing to add")

    async def adds(value: int) -> int:
        nonlocal total
        if value == 13:
            raise TooMuch("13")
        await noted(f"{value}")
        total += value
        return total

    async def holds(what: str) -> str:
        await asyncio.sleep(600)
        return what

    add.handle(adds, validator=small)
    hold.handle(holds)
    end = await go.wait()
    if end == 2:
        continue_as_new(most)
    return total


@app.step(isolation="thread")
def gated(name: str) -> str:
    """Until its gate opens."""
    called.append(name)
    assert gates[name].wait(60)
    return f"through {name}"


@app.workflow
async def passes() -> int:
    """Its update's handler stands at a gate."""

    async def waits(name: str) -> str:
        return await gated(name)

    hold.handle(waits)
    return await go.wait()


@app.workflow
async def mischief() -> list[int]:
    """Its validator does what it may not, for one value or another."""
    taken: list[int] = []

    def meddles(value: int) -> None:
        if value == 1:
            go.send("other", value)
        if value == 2:
            taken.append(value)

    add.handle(lambda value: value, validator=meddles)
    return [await go.wait(), *taken]


class Basket:
    def __init__(self) -> None:
        self.items: dict[str, int] = {}
        self.closed = asyncio.Event()

    @app.run
    async def basket(self, owner: str) -> dict[str, int]:
        await self.closed.wait()
        return self.items

    @update
    async def put(self, item: str, count: int = 1) -> int:
        await noted(item)
        self.items[item] = self.items.get(item, 0) + count
        return self.items[item]

    @put.validator
    def in_range(self, item: str, count: int = 1) -> None:
        if not 0 < count < 10:
            raise ValueError(f"{count} of {item}")

    @update
    def close(self) -> int:
        self.closed.set()
        return len(self.items)


async def kinds(handle: object) -> list[str]:
    return [event.type async for event in handle.history()]  # type: ignore[attr-defined]


@pytest.mark.contract("update", "update-stages")
def test_an_update_changes_the_run_and_answers(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sums, 100)
        assert await handle.update(add, 3) == 3
        assert await handle.update(add, 4) == 7
        await handle.signal(go, 1)
        assert await handle.result() == 7
        story = await kinds(handle)
        assert story.count("UpdateAccepted") == story.count("UpdateCompleted") == 2

    world.run(app, scenario)


@pytest.mark.contract("update")
def test_the_class_form_takes_updates_of_its_methods(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(Basket.basket, "eva")
        assert await handle.update(Basket.put, "pear") == 1
        assert await handle.update(Basket.put, "pear", count=2) == 3
        with pytest.raises(UpdateRejected, match="11 of fig"):
            await handle.update(Basket.put, "fig", 11)
        # Its answer comes although it ends the run in the same turn.
        assert await handle.update(Basket.close) == 1
        assert await handle.result() == {"pear": 3}

    world.run(app, scenario)


@pytest.mark.contract("update")
def test_what_the_validator_refuses_is_not_written(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sums, 100)
        assert await handle.update(add, 1) == 1
        before = await kinds(handle)
        with pytest.raises(TooMuch, match="101 > 100") as declared:
            await handle.update(add, 101)
        assert isinstance(declared.value.__cause__, UpdateRejected)
        with pytest.raises(UpdateRejected, match="ValueError: nothing to add") as refused:
            await handle.using(command_id="none").update(add, 0)
        assert refused.value.code == "update_rejected"
        with pytest.raises(CommandRejected, match="no update 'nothing'; this run takes add, hold") as unknown:
            await client.calls.update(handle.workflow_id, "nothing", c.Payload())
        assert unknown.value.code == "unknown_update"
        assert await kinds(handle) == before
        # Nothing is remembered of it either: its id may be used by another try.
        assert await handle.using(command_id="none").update(add, 2) == 3
        await handle.terminate()

    world.run(app, scenario)


@pytest.mark.contract("update")
def test_a_validator_that_would_change_the_run_is_refused(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(mischief)
        for value in (1, 2):
            with pytest.raises(UpdateRejected, match="validators only read"):
                await handle.update(add, value)
        assert await handle.update(add, 3) == 3
        await handle.signal(go, 5)
        assert await handle.result() == [5]

    world.run(app, scenario)


@pytest.mark.contract("update-id")
def test_an_id_is_one_update_before_and_after_its_end(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sums, 100)
        first = await handle.using(command_id="once").start_update(add, 5)
        again = await handle.using(command_id="once").start_update(add, 5)
        assert await asyncio.gather(first.result(), again.result()) == [5, 5]
        assert await handle.using(command_id="once").update(add, 5) == 5
        assert first.id == "once"
        found = client.handle(sums, handle.workflow_id).update_handle(add, "once")
        assert await found.result() == 5
        await handle.signal(go, 1)
        assert await handle.result() == 5
        assert await handle.using(command_id="once").update(add, 5) == 5, "a run that ended still has its answer"
        assert (await kinds(handle)).count("UpdateAccepted") == 1

    world.run(app, scenario)


@pytest.mark.contract("update-stages")
def test_the_stages_survive_a_crash_between_them(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sums, 100)
        accepted = await handle.start_update(hold, "on")
        assert "UpdateAccepted" in await kinds(handle)
        await world.restart()
        assert await handle.using(timeout=30).update(add, 2) == 2
        assert "carries out update hold" in (await handle.describe()).why
        await handle.terminate()
        with pytest.raises(RunClosed, match=r"update hold .*terminated"):
            await accepted.result()

    world.run(app, scenario)


DEATHS = [(e.UpdateAccepted, "unproven"), (e.UpdateCompleted, "lost")]


@pytest.mark.usefixtures("held")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.contract("update-stages", "update-id")
def test_an_update_is_carried_out_although_its_owner_dies_in_between(world: World) -> None:
    """Right after it was accepted, and when its outcome is about to be recorded."""

    async def die(client: Client, kind: type, how: str) -> None:
        name = f"{kind.__name__}-{how}"
        gate = gates[name] = threading.Event()
        handle = await client.start(passes.options(id=name))
        mine = handle.using(command_id=f"{name}/once")
        async with Halted(world, name, kind, how) as halted:
            first = asyncio.ensure_future(mine.update(hold, name))
            if kind is e.UpdateCompleted:
                await until(lambda: name in called)
                gate.set()
            await halted.reached()
            await halted.die()
        if kind is e.UpdateAccepted:
            again = [await mine.start_update(hold, name) for _ in range(2)]
            assert "UpdateCompleted" not in recorded(world, name), "it is open, and has the id already"
            gate.set()
            assert [await one.result() for one in again] == [f"through {name}"] * 2
        assert await first == f"through {name}"
        assert await mine.update(hold, name) == f"through {name}"
        for once in (e.UpdateAccepted, e.UpdateCompleted, e.StepScheduled):
            assert len(of_kind(world, name, once)) == 1
        await handle.signal(go, 1)
        assert await handle.result() == 1

    async def scenario(client: Client) -> None:
        for kind, how in DEATHS:
            await die(client, kind, how)

    world.run(app, scenario)


@pytest.mark.contract("update")
def test_a_declared_error_fails_the_update_and_not_the_run(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sums, 100)
        with pytest.raises(TooMuch) as failed:
            await handle.update(add, 13)
        assert isinstance(failed.value.__cause__, UpdateFailed)
        assert await handle.update(add, 1) == 1
        await handle.signal(go, 1)
        assert await handle.result() == 1

    world.run(app, scenario)


@pytest.mark.contract("update")
def test_a_value_of_another_type_is_refused_before_anything_is_sent(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sums, 100)
        with pytest.raises(DoesNotRoundTrip):
            await handle.update(add, "three")  # type: ignore[arg-type]
        # From a producer that knows no types it is the engine's to refuse.
        with pytest.raises(UpdateRejected, match="DoesNotRoundTrip"):
            await client.calls.update(handle.workflow_id, "add", c.Payload(data=b'"three"'))
        await handle.terminate()

    world.run(app, scenario)


@pytest.mark.contract("update-close")
@pytest.mark.parametrize("end", ["completes", "terminated", "continues", "cancelled"])
def test_an_update_in_flight_when_the_run_ends_gets_a_definite_answer(world: World, end: str) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(sums, 100)
        held = await handle.start_update(hold, "on")
        if end == "terminated":
            await handle.terminate()
        elif end == "cancelled":
            await handle.cancel()
        else:
            await handle.signal(go, 2 if end == "continues" else 1)
        with pytest.raises(RunClosed, match="before the handler did"):
            await held.result(timeout=timedelta(seconds=30))
        if end == "continues":
            assert await client.handle(sums, handle.workflow_id).update(add, 2) == 2
            await client.handle(sums, handle.workflow_id).terminate()
        else:
            with pytest.raises(RunClosed):
                await client.handle(sums, handle.workflow_id).update(add, 2)

    world.run(app, scenario)


@pytest.mark.contract("update-close")
def test_an_update_in_flight_at_a_time_out(world: World) -> None:
    async def scenario(client: Client) -> None:
        async def held(seconds: int) -> UpdateHandle[str]:
            """An update that its run has accepted before the run's time was over: a slow machine needs more of it."""
            handle = await client.start(sums.options(run_timeout=timedelta(seconds=seconds)), 100)
            try:
                return await handle.start_update(hold, "on")
            except RunClosed:
                return await held(3 * seconds)

        with pytest.raises(RunClosed, match="before the handler did"):
            await (await held(1)).result(timeout=timedelta(seconds=100))

    world.run(app, scenario)


@pytest.mark.contract("update-close")
def test_updates_that_race_the_end_of_their_run_all_get_an_answer(world: World) -> None:
    """Sent together with the signal that ends the run: each is either carried out, or told that the run closed."""

    async def scenario(client: Client) -> None:
        handle = await client.start(sums, 100)
        said = await asyncio.gather(
            *(handle.update(add, 1) for _ in range(5)),
            handle.signal(go, 1),
            *(handle.update(add, 1) for _ in range(5)),
            return_exceptions=True,
        )
        total = await handle.result()
        answers = [one for one in said if isinstance(one, int)]
        assert all(isinstance(one, int | RunClosed | None) for one in said), said
        assert max([0, *answers]) <= total
        assert len(set(answers)) == len(answers)

    world.run(app, scenario)


@pytest.mark.contract("start-update")
def test_update_with_start(world: World) -> None:
    async def scenario(client: Client) -> None:
        starts = client.with_start(sums.options(id="one"), 100)
        assert await starts.update(add, 3) == 3
        assert await client.with_start(sums.options(id="one"), 100).update(add, 4) == 7
        handle = client.handle(sums, "one")
        with pytest.raises(TooMuch):
            await client.with_start(sums.options(id="two"), 1).update(add, 4)
        assert (await client.handle(sums, "two").describe()).status == "running", "the start stands"
        same = client.using(command_id="tried-twice").with_start(sums.options(id="one"), 100)
        assert [await same.update(add, 1), await same.update(add, 1)] == [8, 8]
        await handle.signal(go, 1)
        assert await handle.result() == 8
        assert (await kinds(handle)).count("RunStarted") == 1
        await client.handle(sums, "two").terminate()

    world.run(app, scenario)
