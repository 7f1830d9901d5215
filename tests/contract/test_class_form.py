"""The contract, the class form: an object a run, with handlers; handles, versions and bugs as in the other form."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator import Client, CommandRejected, Orchestrator, RunFailed, Signal, query, run_info, signal
from tests.contract.world import World


def release(version: int) -> Any:
    """The application, and its class; release 2 keeps the first version of `run`."""
    app = Orchestrator("contract-class")

    @app.step
    async def price(item: str) -> int:
        return len(item)

    class Cart:
        """Handlers that use steps, and a main function that waits for what they change."""

        def __init__(self) -> None:
            self.total = 0
            self.items: list[str] = []
            self.done = asyncio.Event()

        @app.run(version=version, name="Cart")
        async def run(self, owner: str) -> str:
            await self.done.wait()
            return f"{owner} pays {self.total} in version {run_info().version}"

        if version > 1:

            @app.run(version=1, name="Cart")
            async def run_1(self, owner: str) -> str:
                await self.done.wait()
                return f"{owner} paid {self.total} in version {run_info().version}"

        @signal
        async def put(self, item: str, *, times: int = 1) -> None:
            for _ in range(times):
                cents = await price(item)
                self.total += cents
            self.items.append(item)

        @signal
        def close(self) -> None:
            self.done.set()

        @query
        def count(self, least: int = 0) -> int:
            return max(len(self.items), least)

        @query
        def broken(self) -> int:
            raise ValueError("not today")

        @query
        def takes(self) -> str:
            return self.items.pop()

        @query
        def closes(self) -> bool:
            self.done.set()
            return True

    return app, Cart


app, Cart = release(1)


@pytest.mark.contract("signal-kept", "query", "start-handles")
def test_handlers_take_signals_and_answer_queries(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(Cart.run.options(id="eva"), "eva")
        await handle.signal(Cart.put, "pen", times=2)
        await handle.signal(Cart.put, "ink")
        while await handle.query(Cart.count) < 2:
            await asyncio.sleep(0.02)
        assert await handle.query(Cart.count, least=5) == 5
        with pytest.raises(CommandRejected, match="not today"):
            await handle.query(Cart.broken)
        await world.restart()
        again = client.handle(Cart.run, "eva")
        assert await again.query(Cart.count) == 2
        await again.signal(Cart.close)
        assert await again.result() == "eva pays 9 in version 1"

    world.run(app, scenario)


@pytest.mark.contract("query-changes")
def test_a_query_that_changes_the_object_raises_and_the_run_never_hears_of_it(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(Cart.run, "eva")
        await handle.signal(Cart.put, "pen")
        while await handle.query(Cart.count) < 1:
            await asyncio.sleep(0.02)
        for asked in (Cart.takes, Cart.closes):
            with pytest.raises(CommandRejected, match="would change the run: queries only read"):
                await handle.query(asked)
        assert await handle.query(Cart.count) == 1
        assert (await handle.describe()).is_open
        await handle.signal(Cart.close)
        assert await handle.result() == "eva pays 3 in version 1"

    world.run(app, scenario)


@pytest.mark.contract("signal-closed")
def test_a_signal_that_its_handler_cannot_take_is_refused(world: World) -> None:
    async def scenario(client: Client) -> None:
        handle = await client.start(Cart.run, "eva")
        with pytest.raises(CommandRejected, match="argument times"):
            await handle.signal(Signal("put", dict[str, str]), {"item": "pen", "times": "often"})
        with pytest.raises(CommandRejected, match="not a JSON object") as refused:
            await handle.signal(Signal("put", str), "pen")
        assert refused.value.code == "bad_request"
        await handle.signal(Cart.put, "pen")
        while await handle.query(Cart.count) < 1:
            await asyncio.sleep(0.02)
        await handle.signal(Cart.close)
        assert await handle.result() == "eva pays 3 in version 1"

    world.run(app, scenario)


@pytest.mark.contract("version")
def test_every_version_is_a_method_and_runs_keep_theirs(world: World) -> None:
    newer, _ = release(2)

    async def scenario(client: Client) -> None:
        before = await client.start(Cart.run, "eva")
        await before.signal(Cart.put, "pen")
        await world.deploy(newer)
        after = await client.start(Cart.run, "ada")
        for handle in (before, after):
            await handle.signal(Cart.close)
        assert await before.result() == "eva paid 3 in version 1"
        assert await after.result() == "ada pays 0 in version 2"

    world.run(app, scenario)


@pytest.mark.contract("bugs")
def test_a_handlers_bug_is_the_runs(world: World) -> None:
    buggy = Orchestrator("contract-class")

    class Fails:
        @buggy.run(on_bug="fail")
        async def run(self) -> None:
            await asyncio.Event().wait()

        @signal
        def strike(self) -> None:
            raise KeyError("a handler")

    async def scenario(client: Client) -> None:
        handle = await client.start(Fails.run)
        await handle.signal(Fails.strike)
        with pytest.raises(RunFailed, match="a handler"):
            await handle.result()

    world.run(buggy, scenario)
