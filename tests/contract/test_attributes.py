"""Memo, attributes and summaries: what is said of a run at its start and by its code, read and searched by others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from orchestrator import (
    Client,
    CommandRejected,
    Orchestrator,
    Selection,
    continue_as_new,
    run_info,
    set_summary,
)
from orchestrator.core import commands as c
from orchestrator.sdk.attributes import Where
from tests.contract.world import World

app = Orchestrator("attributes")
customer = app.attribute("customer", str)
amount = app.attribute("amount", int)
share = app.attribute("share", float)
urgent = app.attribute("urgent", bool)
due = app.attribute("due", datetime)
tags = app.attribute("tags", list[str])
go = app.signal("go", int)
moment = datetime(2026, 11, 23, 12, tzinfo=UTC)


@app.step
async def one() -> int:
    return 1


@app.workflow
async def order(rounds: int = 0) -> list[object]:
    set_summary("counting")
    amount.set(await one())
    set_summary("waiting for go")
    said = await go.wait()
    amount.set(said)
    amount.set((amount.get() or 0) + 1)
    if rounds:
        continue_as_new(rounds - 1)
    return [customer.get(), amount.get(), tags.get(), due.get() == moment, run_info().memo]


@app.workflow
async def parent() -> list[object]:
    options = order.options(id="inner", memo={"by": "parent"}, attributes=[customer.of("kid")], summary="a child")
    return await options()


given = [customer.of("acme"), amount.of(0), share.of(0.5), urgent.of(True), due.of(moment), tags.of(["red", "new"])]


@pytest.mark.contract("start-attributes")
def test_what_is_given_at_the_start_is_read_by_code_and_callers(world: World) -> None:
    async def scenario(client: Client) -> None:
        options = order.options(id="o1", memo={"note": [1]}, attributes=given, summary="an order of acme")
        handle = await client.start(options)
        while (await handle.describe()).current_summary != "waiting for go":
            await asyncio.sleep(0.01)
        await handle.signal(go, 5)
        assert await handle.result() == ["acme", 6, ["red", "new"], True, {"note": [1]}]
        found = await handle.describe()
        assert (found.memo, found.summary, found.current_summary) == (
            {"note": [1]},
            "an order of acme",
            "waiting for go",
        )
        assert found.attributes == {
            "customer": "acme",
            "amount": 6,
            "share": 0.5,
            "urgent": True,
            "due": "2026-11-23T12:00:00+00:00",
            "tags": ["red", "new"],
        }
        said = [event.body async for event in handle.history() if event.type == "RunAnnotated"]
        assert [body["summary"] for body in said] == ["counting", "waiting for go", None]
        assert [[one["value"] for one in body["attributes"]] for body in said] == [[], ["1"], ["6"]]

    world.run(app, scenario)


@pytest.mark.contract("start-attributes")
def test_runs_are_found_by_their_attributes(world: World) -> None:
    async def scenario(client: Client) -> None:
        for number, name in enumerate(["acme", "bolt", "acme"]):
            values = [customer.of(name), share.of(number), due.of(moment.replace(day=20 + number)), tags.of([name])]
            await client.start(order.options(id=f"o{number}", attributes=values))

        async def found(*where: Where) -> list[str]:
            return sorted([run.workflow_id async for run in client.runs(where=where)])

        assert await found(customer.where("=", "acme")) == ["o0", "o2"]
        assert await found(customer.where("=", "acme"), share.where(">", 1.0)) == ["o2"]
        assert await found(share.where("<=", 1)) == ["o0", "o1"]
        assert await found(due.where(">=", moment.replace(day=21))) == ["o1", "o2"]
        assert await found(tags.where("has", "bolt")) == ["o1"]
        assert await found(customer.where("!=", "acme")) == ["o1"]
        assert await found(urgent.where("=", True)) == []
        assert await found(Where("customer", ">", "3")) == [], "of another type"
        with pytest.raises(CommandRejected, match="like"):
            await found(Where("customer", "like", '"a"'))
        done = await client.batch("terminate", Selection(where=[customer.where("=", "acme")]))
        assert sorted(one.workflow_id for one in done) == ["o0", "o2"]
        await client.handle(order, "o1").terminate()

    world.run(app, scenario)


@pytest.mark.contract("start-attributes", "continue-as-new")
def test_they_go_on_with_a_run_that_continues_as_new(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(order.options(id="o1", memo=7, attributes=given, summary="two rounds"), 1)
        await handle.signal(go, 5)
        while (await client.handle(order, "o1").describe()).run_id == handle.run_id:
            await asyncio.sleep(0.01)
        found = await client.handle(order, "o1").describe()
        assert (found.memo, found.summary, found.attributes["customer"]) == (7, "two rounds", "acme")
        await client.handle(order, "o1").signal(go, 1)
        assert await handle.result() == ["acme", 2, ["red", "new"], True, 7]

    world.run(app, scenario)


@pytest.mark.contract("start-attributes")
def test_children_have_their_own(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(parent)
        while not [run async for run in client.runs(where=[customer.where("=", "kid")])]:
            await asyncio.sleep(0.01)
        assert (await client.handle(order, "inner").describe()).summary == "a child"
        await client.handle(order, "inner").signal(go, 1)
        assert await handle.result() == ["kid", 2, None, False, {"by": "parent"}]

    world.run(app, scenario)


@pytest.mark.contract("start-attributes")
def test_a_value_of_another_type_never_leaves(world: World) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(TypeError, match="customer is of type str"):
            customer.of(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="no time zone"):
            due.of(moment.replace(tzinfo=None))
        with pytest.raises(TypeError, match="amount is of type int, not True"):
            amount.of(True)
        body = c.StartWorkflow("order", attributes=(customer.of("acme"),))
        await client.calls.start("plain", body)
        assert (await client.handle(order, "plain").describe()).attributes["customer"] == "acme"
        await client.handle(order, "plain").terminate()

    world.run(app, scenario)
