"""The contract, entities: one call at a time per key, in order; reads beside them; a failed call changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator import (
    Client,
    CommandRejected,
    Handle,
    Orchestrator,
    RunCancelled,
    RunParked,
    RunTerminated,
    query,
)
from tests.contract.world import World

app = Orchestrator("contract-entities")
go = app.signal("go", int)
done = app.signal("done", int)


@app.error
class Overdrawn(Exception):
    """What a call may fail with."""


@app.step
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@app.entity
@dataclass
class Account:
    """A plain balance, and the order in which it came about."""

    balance: int = 0
    entries: list[int] = field(default_factory=list)

    @app.handler
    async def deposit(self, cents: int, *, slowly: bool = False) -> int:
        before = self.balance
        if slowly:
            await nap(0.02)
        self.balance = before + cents
        self.entries.append(cents)
        return self.balance

    @app.handler
    async def withdraw(self, cents: int) -> int:
        await self.deposit(-cents)
        if self.balance < 0:
            raise Overdrawn(f"{self.balance} cents")
        return self.balance

    @app.handler
    async def held(self) -> int:
        """Keeps its turn until it is told to go on."""
        self.balance += 1
        self.balance += await go.wait()
        return self.balance

    @app.handler
    async def transfer(self, cents: int, to: str) -> int:
        self.balance -= cents
        return await Account.deposit.on(to)(cents)

    @app.handler
    async def locks_itself(self) -> int:
        return await Account.deposit.on("self")(1)

    @query
    def statement(self, currency: str = "EUR") -> str:
        return f"{self.balance} {currency}"

    @query
    def grows(self) -> int:
        self.balance += 1
        return self.balance


@app.workflow
async def pays(cents: int, keys: list[str]) -> list[int]:
    """Calls entities as children."""
    return list(await asyncio.gather(*(Account.deposit.on(key)(cents, slowly=True) for key in keys)))


@app.workflow
async def gives_up(key: str) -> str:
    call = asyncio.ensure_future(Account.deposit.on(key)(100))
    await go.wait()
    call.cancel()
    await done.wait()
    return "gave up"


async def until(handle: Handle[Any], status: str) -> None:
    """Wait for a status."""
    while (await handle.describe()).status != status:
        await asyncio.sleep(0.02)


@pytest.mark.contract("entity")
def test_calls_of_a_key_run_one_at_a_time_in_their_order(world: World) -> None:
    async def scenario(client: Client) -> None:
        account = client.entity(Account, "alice")
        handles = [await account.send(Account.deposit, n, slowly=n % 3 == 0) for n in range(12)]
        other = await client.entity(Account, "bob").call(Account.deposit, 5)
        assert other == 5
        assert [await handle.result() for handle in handles] == [sum(range(n + 1)) for n in range(12)]
        described = await account.describe()
        assert described.state == {"balance": 66, "entries": list(range(12))}
        assert (described.running, described.waiting, described.calls) == ("", 0, 12)
        assert len({handle.run_id for handle in handles}) == 12

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_concurrent_callers_lose_nothing(world: World) -> None:
    async def scenario(client: Client) -> None:
        account = client.entity(Account, "alice")
        await asyncio.gather(*(account.call(Account.deposit, 1, slowly=True) for _ in range(10)))
        assert await account.query(Account.statement) == "10 EUR"

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_reads_do_not_wait_for_the_call_that_runs(world: World) -> None:
    async def scenario(client: Client) -> None:
        account = client.entity(Account, "alice")
        assert await account.query(Account.statement) == "0 EUR"
        assert (await account.describe()).state is None
        await account.call(Account.deposit, 7)
        held = await account.send(Account.held)
        waits = await account.send(Account.deposit, 100)
        await until(held, "running")
        await until(waits, "queued")
        assert await account.query(Account.statement, "CZK") == "7 CZK"
        assert "takes one call at a time" in (await waits.describe()).why
        described = await account.describe()
        assert (described.running, described.waiting) == (held.run_id, 1)
        await world.restart()
        assert await account.query(Account.statement) == "7 EUR"
        await held.signal(go, 2)
        assert await held.result() == 10
        assert await waits.result() == 110

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_a_read_that_would_change_the_entity_raises(world: World) -> None:
    async def scenario(client: Client) -> None:
        account = client.entity(Account, "alice")
        with pytest.raises(CommandRejected, match="would change entity Account"):
            await account.query(Account.grows)
        assert await account.query(Account.statement) == "0 EUR"

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_a_call_that_fails_changes_nothing_and_the_next_one_runs(world: World) -> None:
    async def scenario(client: Client) -> None:
        account = client.entity(Account, "alice")
        await account.call(Account.deposit, 5)
        with pytest.raises(Overdrawn, match="-4 cents"):
            await account.call(Account.withdraw, 9)
        assert await account.query(Account.statement) == "5 EUR"
        assert await account.call(Account.withdraw, 2) == 3

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_the_same_call_counts_once(world: World) -> None:
    async def scenario(client: Client) -> None:
        account = client.using(command_id="once").entity(Account, "alice")
        assert await account.call(Account.deposit, 5) == 5
        await world.restart()
        assert await account.call(Account.deposit, 5) == 5
        assert (await account.describe()).calls == 1

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_a_queue_survives_restarts(world: World) -> None:
    async def scenario(client: Client) -> None:
        account = client.entity(Account, "alice")
        handles = [await account.send(Account.deposit, n, slowly=True) for n in range(8)]
        for handle in handles[::4]:
            await handle.result()
            await world.restart()
        assert [await handle.result() for handle in handles] == [sum(range(n + 1)) for n in range(8)]
        for handle in handles:
            kinds = [event.type async for event in handle.history()]
            assert kinds.count("EntityAdmitted") == 1

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_calls_that_are_ended_while_they_wait_or_run_let_the_next_one_in(world: World) -> None:
    async def scenario(client: Client) -> None:
        account = client.entity(Account, "alice")
        held = await account.send(Account.held)
        terminated = await account.send(Account.deposit, 10)
        cancelled = await account.send(Account.deposit, 100)
        last = await account.send(Account.deposit, 1000)
        await terminated.terminate()
        await cancelled.cancel()
        with pytest.raises(RunTerminated):
            await terminated.result()
        assert (await last.describe()).status == "queued"
        await held.terminate()
        with pytest.raises(RunCancelled):
            await cancelled.result()
        assert await last.result() == 1000
        assert (await account.describe()).waiting == 0

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_workflows_call_entities_and_entities_each_other(world: World) -> None:
    async def scenario(client: Client) -> None:
        first, second = await asyncio.gather(
            client.execute(pays, 5, ["alice", "bob", "alice"]), client.execute(pays, 5, ["alice", "bob"])
        )
        assert sorted([*first[::2], second[0]]) == [5, 10, 15]
        assert await client.entity(Account, "alice").call(Account.transfer, 4, "bob") == 14
        assert await client.entity(Account, "alice").query(Account.statement) == "11 EUR"

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_a_cancelled_caller_takes_its_own_call_back_and_no_other(world: World) -> None:
    async def scenario(client: Client) -> None:
        account = client.entity(Account, "alice")
        held = await account.send(Account.held)
        caller = await client.start(gives_up, "alice")
        while (await account.describe()).waiting < 1:
            await asyncio.sleep(0.02)
        later = await account.send(Account.deposit, 1)
        await caller.signal(go, 1)
        while "ChildCancelRequested" not in [event.type async for event in caller.history()]:
            await asyncio.sleep(0.02)
        await held.signal(go, 0)
        assert await later.result() == 2
        await caller.signal(done, 1)
        assert await caller.result() == "gave up"

    world.run(app, scenario)


@pytest.mark.contract("entity")
def test_a_call_that_would_wait_for_itself_parks(world: World) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(RunParked, match="would wait for itself"):
            await client.entity(Account, "self").call(Account.locks_itself)

    world.run(app, scenario)
