"""Checked, never run: what the SDK's types must infer, and (marked `# wrong E1` and so on) what they must refuse."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TypeVar, assert_type

from orchestrator import (
    BlockingClient,
    Client,
    EntityHandle,
    Failed,
    Handle,
    Orchestrator,
    Saga,
    Selection,
    UpdateHandle,
    Workflow,
    patched,
    query,
    signal,
    update,
)

app = Orchestrator("shop")
approved = app.signal("approved", bool)
progress = app.query("progress", dict[str, int])
raised = app.update("raised", int, str)
T = TypeVar("T")


@app.step
async def charge(order: str, cents: int, *, currency: str = "EUR") -> str:
    return f"{order}{cents}{currency}"


@app.step(retry=3, on_crash="park")
async def ship(order: str) -> bool:
    return bool(order)


@app.step
def add(a: int, b: int = 0) -> int:
    return a + b


@app.step(queue="gpu")
def embed(text: str) -> list[float]:
    return [float(len(text))]


@app.step
async def pick(items: list[T]) -> T:
    return items[0]


class Tools:
    """Steps as methods."""

    @app.step
    async def look(self, question: str, n: int = 3) -> list[str]:
        return [question] * n


tools = Tools()


@app.workflow(version=2)
async def order(oid: str, cents: int, *, gift: bool = False) -> str:
    a = await charge(oid, cents, currency="CZK")
    assert_type(a, str)
    assert_type(await ship.options(retry=1)(oid), bool)
    assert_type(await add(1), int)
    x, y = await asyncio.gather(charge(oid, 1), add(2))
    assert_type(x, str)
    assert_type(y, int)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ship(oid))
    assert_type(task.result(), bool)
    assert_type(await asyncio.wait_for(embed("x"), 3), list[float])
    assert_type(await tools.look("q", n=2), list[str])
    assert_type(await ship.map(["a", "b"], concurrency=3), list[bool])
    assert_type(await ship.map(["a"], on_error="collect"), list[bool | Failed])
    assert_type(await add.map([1, 2]), list[int])
    assert_type(await pick([1, 2]), int)
    assert_type(await approved.wait(), bool)
    assert_type(await child.options(id="c")(oid), int)
    return a


@order.older(version=1)
async def order_v1(oid: str, cents: int, *, gift: bool = False) -> str:
    return f"{oid}{cents}{gift}"


@app.workflow
async def child(oid: str) -> int:
    return len(oid)


class Approval:
    """The class form."""

    def __init__(self) -> None:
        self.ok = False

    @app.run(version=2, on_bug="fail")
    async def run(self, who: str) -> bool:
        return self.ok and bool(who)

    @app.run(version=1)
    async def run_1(self, who: str) -> bool:
        return bool(who)

    @signal
    def approve(self, ok: bool) -> None:
        self.ok = ok

    @query
    def state(self) -> bool:
        return self.ok

    @update
    async def sign(self, who: str, *, pages: int = 1) -> int:
        return len(who) * pages

    @sign.validator
    def known(self, who: str, *, pages: int = 1) -> None:
        assert who


@app.entity
class Account:
    """An entity: a plain class whose fields are its state."""

    balance: int = 0

    @app.handler
    async def deposit(self, cents: int, *, note: str = "") -> int:
        self.balance += cents
        return self.balance

    @app.handler
    async def twice(self, cents: int) -> str:
        assert_type(await self.deposit(cents, note="first"), int)
        return str(await Account.deposit.on("other")(cents))

    @query
    def statement(self, currency: str = "EUR") -> str:
        return f"{self.balance} {currency}"


@app.workflow
async def pays(cents: int) -> int:
    async with Saga() as saga:
        paid = await saga.do(charge("o", cents), refund)
        assert_type(paid, str)
        saga.add(charge, "o", cents, currency="CZK")
        assert_type(patched("side"), bool)
    return await Account.deposit.on("alice")(cents, note="paid")


@app.step
async def refund(payment: str) -> None:
    print(payment)


async def of_entities(client: Client) -> None:
    """Callers of an entity."""
    account = client.entity(Account, "alice")
    assert_type(account, EntityHandle[Account])
    assert_type(await account.call(Account.deposit, 5, note="x"), int)
    assert_type(await account.send(Account.twice, 5), Handle[str])
    assert_type(await account.query(Account.statement, "CZK"), str)
    assert_type(await client.start(Account.deposit.on("bob"), 5), Handle[int])
    assert_type(await client.execute(Account.twice.on("bob"), 5), str)
    assert_type(await Account().deposit(5), int)


async def inferred() -> None:
    """Callers' side."""
    assert_type(app.connect(), AbstractAsyncContextManager[Client])
    assert_type(order, Workflow[[str, int], str])  # wrong: the keyword-only parameter is part of the type
    async with app.connect() as client:
        assert_type(client, Client)
        handle = await client.start(order.options(id="o-1"), "o-1", 100, gift=True)
        assert_type(handle, Handle[str])
        assert_type(await client.execute(order, "o", 1), str)
        assert_type(await client.handle(order, "o-1").result(), str)
        assert_type(await handle.query(progress), dict[str, int])
        assert_type(await charge("a", 1), str)
        decision = await client.start(Approval.run, "eva")
        assert_type(decision, Handle[bool])
        assert_type(client.handle(Approval.run, "d-1"), Handle[bool])
        await decision.signal(Approval.approve, True)
        assert_type(await decision.query(Approval.state), bool)
        assert_type(await decision.update(Approval.sign, "eva", pages=2), int)
        assert_type(await decision.start_update(Approval.sign, "eva"), UpdateHandle[int])
        assert_type(decision.update_handle(Approval.sign, "u-1"), UpdateHandle[int])
        assert_type(await handle.update(raised, 5), str)
        assert_type(await (await handle.start_update(raised, 5)).result(), str)
        assert_type(await client.with_start(order, "o", 1).update(raised, 5), str)
    with BlockingClient.connect(app) as blocking:
        assert_type(blocking.entity(Account, "a").call(Account.deposit, 5), int)
        assert_type(blocking.entity(Account, "a").query(Account.statement), str)
        assert_type(blocking.execute(order, "o", 1), str)


async def refused(client: Client) -> None:
    """Every one of these is a mistake that must not wait for a run to be found."""
    await charge("a", "b")  # wrong E1: an argument's type
    await charge("a")  # wrong E2: a missing argument
    await charge("a", 1, curency="x")  # wrong E3: a keyword that is not there
    await client.start(order.options(id="x"), 1, 100)  # wrong E4: a start's argument
    order.options(idd="x")  # wrong E5: an option that is not there
    await charge.options(on_crash="pray")("a", 1)  # wrong E6: an option's value
    await ship.map([1, 2])  # wrong E7: the items' type
    await tools.look(3)  # wrong E8: a method step's argument
    await charge.map(["a"])  # wrong E9: a step of two arguments over items
    number: int = await charge("a", 1)  # wrong E10: the result's type
    charge("a", number)  # wrong E11: a forgotten await
    decision = await client.start(Approval.run, "eva")
    await decision.signal(Approval.approve, "yes")  # wrong E12: a handler's argument
    await client.start(Approval.run, 7)  # wrong E13: the class form's argument
    await child(7)  # wrong E14: a child's argument
    await decision.signal(approved, "yes")  # wrong E15: a signal's value
    app.signal("paid", 5)  # wrong E16: a signal's type
    app.workflow(on_bug="explode")  # wrong E17: a workflow's option
    app.run(on_bug="explode")  # wrong E17b: of the class form
    app.step(retries=3)  # wrong E18: a step's option
    account = client.entity(Account, "alice")
    await account.call(Account.deposit, "5")  # wrong E19: a call's argument
    await account.send(Account.deposit, 5, nota="x")  # wrong E20: a keyword that is not there
    await account.query(Approval.state)  # wrong E21: a query of another class
    total: str = await account.call(Account.deposit, 5)  # wrong E22: the result's type
    await Account.deposit.on(7)(5)  # wrong E23: a key's type
    await Account.deposit.on("bob")(total)  # wrong E24: a child call's argument
    async with Saga() as saga:
        await saga.do(child("x"), refund)  # wrong E25: the compensation takes another type
        saga.add(charge, "o")  # wrong E26: a compensation's arguments
    await decision.update(raised, "5")  # wrong E33: an update's value
    await decision.update(Approval.sign, 5)  # wrong E34: an update method's argument
    await decision.update(Approval.sign, "eva", page=2)  # wrong E35: a keyword that is not there
    signed: str = await decision.update(Approval.sign, "eva")  # wrong E36: the result's type
    await decision.update(Approval.approve, True)  # wrong E37: a signal is no update
    await decision.start_update(raised, signed)  # wrong E38: of one that is not waited for
    await client.with_start(order, 7, 1).update(raised, 5)  # wrong E39: the argument of the start
    await client.with_start(order, "o", 1).update(raised, "5")  # wrong E40: the value after the start
    raised.handle(charge)  # wrong E41: a handler of other arguments
    app.update("paid", 5, str)  # wrong E42: an update's type


async def in_bulk(client: Client, blocking: BlockingClient) -> None:
    """Each action with the options of its own."""
    runs = Selection(workflow_type="order")
    await client.batch("pause", runs, dry_run=True)
    await client.batch("reset", runs, event=3, keep_signals=False)
    await client.batch("fork", runs, step="charge", arguments=("o", 1), batch_id="b1")
    await client.batch("signal", runs, signal=approved, value=True)
    await client.batch("signal", runs, signal=Approval.approve, arguments=(True,), dry_run=True)
    blocking.batch("signal", runs, signal=approved, value=True)
    await client.batch("purge", runs)  # wrong E27: an action that is not there
    await client.batch("pause", runs, step="charge")  # wrong E28: an option of another action
    await client.batch("fork", runs)  # wrong E29: from before which step
    await client.batch("reset", runs, event="3")  # wrong E30: an option's type
    await client.batch("signal", runs, signal=approved, value="yes")  # wrong E31: a signal's value
    blocking.batch("fork", runs, stepp="charge")  # wrong E32: an option that is not there
