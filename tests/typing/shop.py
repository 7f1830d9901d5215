"""The first page of the tutorial: clean under both checkers, and it runs (`tests/testing/test_environment.py`)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from orchestrator import Orchestrator, step_info, testing

app = Orchestrator("shop")
approved = app.signal("approved", bool)


class Bank:
    """Somebody else's API."""

    async def charge(self, order_id: str, cents: int, *, key: str) -> str:
        """A payment."""
        return f"paid {cents} for {order_id} once, by {key}"


bank = Bank()


@app.error
class CardDeclined(Exception): ...


@app.step(on_crash="park")  # unsafe to repeat: a person decides
async def charge(order_id: str, cents: int) -> str:
    return await bank.charge(order_id, cents, key=step_info().idempotency_key)


@app.step
def pack(item: str, gift: bool = False) -> int:
    return len(item) + gift


@app.workflow
async def order(order_id: str, items: list[str], *, cents: int) -> str:
    grams = await pack.map(items, concurrency=8)
    if cents > 10_000 and not await approved.wait(timeout=timedelta(days=3)):
        return "refused"
    try:
        payment = await charge(order_id, cents)
    except CardDeclined:
        return "declined"
    await asyncio.sleep(7 * 86_400)  # durable: holds no thread and no memory
    return f"{payment}: {sum(grams)} g"


async def main() -> None:
    """Against the engine of `orchestrator dev`."""
    async with app.connect() as client:
        run = await client.start(order.options(id="order-7"), "7", ["pen"], cents=20_000)
        await run.signal(approved, True)
        print(await run.result())


async def plain() -> None:
    """A step is a plain call where nothing runs."""
    assert await pack("pen") == 3


async def week() -> None:
    """A week passes in milliseconds, without a broker."""
    async with testing.environment(app) as env:
        with env.replace(charge, lambda order_id, cents: "p1"):
            assert await env.execute(order, "7", ["pen"], cents=9) == "p1: 3 g"
