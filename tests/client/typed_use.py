"""Checked, never run: what the client's types must infer, and (marked `# wrong`) what they must refuse."""

from __future__ import annotations

from typing import assert_type

from orchestrator.client.blocking import BlockingClient
from orchestrator.client.client import Client
from orchestrator.client.handle import Handle
from tests.client.shop import Approval, Receipt, app, approved, greet, order, progress


async def inferred(client: Client) -> None:
    """Arguments, results, signals and queries keep their types."""
    handle = await client.start(order.options(id="order-7"), "7", ["pen"], cents=3)
    assert_type(handle, Handle[Receipt])
    assert_type(await client.execute(greet, "eva"), str)
    assert_type(await client.handle(order, "order-7").result(), Receipt)
    assert_type(await handle.query(progress), dict[str, str])
    await handle.signal(approved, True)
    decision = await client.start(Approval.run, "deploy")
    assert_type(decision, Handle[bool])
    await decision.signal(Approval.approve, "eva", loudly=True)


def blocking() -> None:
    """The blocking facade has the same types."""
    with BlockingClient.connect(app) as client:
        assert_type(client.execute(greet, "eva"), str)
        assert_type(client.start(order, "7", ["pen"]).result(), Receipt)
        client.start(greet, 7)  # wrong


async def refused(client: Client) -> None:
    """Every one of these is a mistake that must not wait for a run to be found."""
    await client.start(order.options(id="x"), 1, ["a"])  # wrong
    await client.execute(greet)  # wrong
    await client.execute(order, "7", ["a"], cent=1)  # wrong
    handle = await client.start(greet, "eva")
    await handle.signal(approved, "yes")  # wrong
    decision = await client.start(Approval.run, "deploy")
    await decision.signal(Approval.approve, 5)  # wrong
    await decision.query(Approval.asked)  # wrong
    number: int = await handle.result()  # wrong
    print(number)
    client.start(greet, "eva")  # forgotten await
