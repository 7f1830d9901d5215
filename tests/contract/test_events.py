"""The contract, "Talking to a run": events of the application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Client, CommandRejected, Handle, Orchestrator, continue_as_new, wait_event
from orchestrator.errors import LimitExceeded
from tests.contract.world import World

app = Orchestrator("contract-events")


@dataclass(frozen=True)
class Payment:
    """What is paid for which order."""

    order_id: str
    cents: int


payment = app.event("payment", Payment)
large = app.event("large", str)
go = app.signal("go", bool)


@app.workflow
async def waits_for(order_id: str) -> int:
    return (await payment.wait(match={"order_id": order_id})).cents


@app.workflow
async def waits_after_go(order_id: str, since_s: float, patience_s: float) -> Any:
    await go.wait()
    return await wait_event(
        "payment", {"order_id": order_id}, timeout=timedelta(seconds=patience_s), since=timedelta(seconds=since_s)
    )


@app.workflow
async def counts(number: int) -> list[int]:
    return [(await payment.wait()).cents for _ in range(number)]


@app.workflow
async def counts_for_ever(left: int, seen: list[int]) -> list[int]:
    """Each wait in a run of its own."""
    seen.append((await payment.wait()).cents)
    if left:
        continue_as_new(left - 1, seen)
    return seen


@app.workflow
async def measures(number: int) -> list[str]:
    return [str(await wait_event("large"))[:3] for _ in range(number)]


@app.workflow
async def sends_too_much() -> str:
    try:
        large.send("x" * 300_000)
    except LimitExceeded as error:
        return str(error)
    return "sent"


@app.workflow
async def pays(order_id: str) -> None:
    payment.send(Payment(order_id, 5))


@app.workflow
async def gives_up() -> str:
    found = await payment.wait(match={"order_id": "never"}, timeout=timedelta(milliseconds=100))
    assert found is None
    await go.wait()
    return "gave up"


@app.workflow
async def first_of_two() -> str:
    waits = [asyncio.ensure_future(wait_event(name)) for name in ("left", "right")]
    done, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        other.cancel()
    return str(done.pop().result())


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    while not await holds():
        await asyncio.sleep(0.02)


async def waiting(client: Client, number: int, name: str = "payment") -> None:
    """Wait until so many waits are known to the topic."""

    async def are() -> bool:
        return (await client.events(name)).waiting == number

    await until(are)


async def kinds(handle: Handle[Any]) -> list[str]:
    """The types of a run's events."""
    return [event.type async for event in handle.history()]


@pytest.mark.contract("event-wait")
def test_an_event_reaches_every_run_that_it_fits_and_no_other(world: World) -> None:
    async def scenario(client: Client) -> None:
        ones = [await client.start(waits_for, "7") for _ in range(3)]
        other = await client.start(waits_for, "8")
        await waiting(client, 4)
        assert "event payment" in (await other.describe()).why
        await client.send_event(payment, Payment("7", 70))
        assert [await one.result() for one in ones] == [70] * 3
        await waiting(client, 1)
        await client.send_event("payment", {"order_id": "8", "cents": 80})
        assert await other.result() == 80
        (delivered,) = [event async for event in other.history() if event.type == "EventDelivered"]
        assert delivered.body["payload"] == {"order_id": "8", "cents": 80}

    world.run(app, scenario)


@pytest.mark.contract("event-wait")
def test_an_event_of_another_type_is_refused_and_parks_nobody(world: World) -> None:
    async def scenario(client: Client) -> None:
        one = await client.start(waits_for, "7")
        await waiting(client, 1)
        with pytest.raises(CommandRejected, match=r"event payment: .* is no Payment") as refused:
            await client.send_event("payment", {"order_id": "7", "cents": "plenty"})
        assert refused.value.code == "bad_request"
        await client.send_event("payment", {"order_id": "7", "cents": 70})
        assert await one.result() == 70

    world.run(app, scenario)


@pytest.mark.contract("event-look-back")
def test_a_wait_looks_back(world: World) -> None:
    async def scenario(client: Client) -> None:
        late = await client.start(waits_after_go, "1", 60.0, 60.0)
        blind = await client.start(waits_after_go, "1", 0.0, 0.3)
        await client.send_event(payment, Payment("1", 10))
        # The log's time must move on for a wait that looks back by nothing.
        await asyncio.sleep(0.05)
        await late.signal(go, True)
        await blind.signal(go, True)
        assert await late.result() == {"order_id": "1", "cents": 10}
        assert await blind.result() is None

    world.run(app, scenario)


@pytest.mark.contract("event-look-back")
def test_an_event_in_the_millisecond_before_the_wait_is_not_missed(world: World) -> None:
    async def scenario(client: Client) -> None:
        async def both(number: int) -> int:
            order = str(number)
            run, _ = await asyncio.gather(
                client.start(waits_for, order), client.send_event(payment, Payment(order, number))
            )
            return await run.result()

        assert await asyncio.gather(*(both(number) for number in range(30))) == list(range(30))
        await waiting(client, 0)

    world.run(app, scenario)


@pytest.mark.contract("event-look-back", "event-wait")
def test_waits_in_a_loop_get_each_event_once_in_order(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(counts, 6)
        for number in range(3):
            await client.send_event(payment, Payment("a", number), id=f"p{number}")
            await client.send_event(payment, Payment("a", 99), id=f"p{number}")
        await world.restart()
        for number in range(3, 6):
            await client.send_event(payment, Payment("a", number))
        assert await handle.result() == list(range(6))
        kept = await client.events(payment)
        assert [one.payload["cents"] for one in kept.events] == list(range(6))
        assert [one.id for one in kept.events][:3] == ["p0", "p1", "p2"]

    world.run(app, scenario)


@pytest.mark.contract("event-wait")
def test_a_wait_whose_time_is_over_is_forgotten(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(gives_up)

        async def is_over() -> bool:
            return "WaitCancelled" in await kinds(handle)

        await until(is_over)
        await waiting(client, 0)
        await client.send_event(payment, Payment("never", 1))
        await handle.signal(go, True)
        assert await handle.result() == "gave up"
        assert "EventDelivered" not in await kinds(handle)

    world.run(app, scenario)


@pytest.mark.contract("event-wait")
def test_the_first_of_two_waits_ends_the_other(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(first_of_two)
        await waiting(client, 1, "left")
        await waiting(client, 1, "right")
        await client.send_event("right", "R")
        assert await handle.result() == "R"
        await waiting(client, 0, "left")

    world.run(app, scenario)


@pytest.mark.contract("event-wait")
def test_a_wait_survives_a_restart_and_ends_with_its_run(world: World) -> None:
    async def scenario(client: Client) -> None:
        stays = await client.start(waits_for, "5")
        goes = await client.start(waits_for, "5")
        await waiting(client, 2)
        await world.restart()
        await goes.terminate()
        await waiting(client, 1)
        await client.send_event(payment, Payment("5", 50))
        assert await stays.result() == 50
        assert "EventDelivered" not in await kinds(goes)

    world.run(app, scenario)


@pytest.mark.contract("event-look-back")
def test_a_run_that_continues_as_new_does_not_hear_an_event_again(world: World) -> None:
    async def scenario(client: Client) -> None:
        for number in range(4):
            await client.send_event(payment, Payment("a", number))
        handle = await client.start(counts_for_ever, 3, [])
        assert await handle.result() == [0, 1, 2, 3]

    world.run(app, scenario)


@pytest.mark.contract("event-wait")
def test_a_run_sends_an_event(world: World) -> None:
    async def scenario(client: Client) -> None:
        waits = await client.start(waits_for, "12")
        await client.execute(pays, "12")
        assert await waits.result() == 5
        (kept,) = (await client.events("payment")).events
        assert kept.payload == {"order_id": "12", "cents": 5}

    world.run(app, scenario)


@pytest.mark.contract("event-wait")
def test_an_event_that_is_too_large_is_refused(world: World) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(CommandRejected, match="an event has at most 262144") as refused:
            await client.send_event("large", "x" * 300_000)
        assert refused.value.code == "too_large"
        assert "the limit is 262144" in await client.execute(sends_too_much)
        assert (await client.events(large)).events == ()

    world.run(app, scenario)


@pytest.mark.contract("event-wait")
def test_a_fork_waits_for_the_event_itself(world: World) -> None:
    async def scenario(client: Client) -> None:
        first = await client.start(waits_for, "9")
        await waiting(client, 1)
        (awaited,) = [event.seq async for event in first.history() if event.type == "EventAwaited"]
        forked = await first.reset(event=awaited)
        await waiting(client, 1)
        await client.send_event(payment, Payment("9", 90))
        assert await forked.result() == 90

    world.run(app, scenario)


@pytest.mark.contract("event-wait")
def test_events_too_large_to_be_handed_out_at_once_reach_all_in_order(world: World) -> None:
    """A megabyte is handed out at a time: four copies of each."""

    async def scenario(client: Client) -> None:
        handles = [await client.start(measures, 3) for _ in range(10)]
        await waiting(client, 10, "large")
        await asyncio.gather(*(client.send_event("large", f"{number:03}" + "x" * 200_000) for number in range(3)))
        got = [await handle.result() for handle in handles]
        assert sorted(got[0]) == ["000", "001", "002"]
        assert got == [got[0]] * 10
        await waiting(client, 0, "large")

    world.run(app, scenario)
