"""Entities by the blocking client, against an engine in memory."""

from __future__ import annotations

import asyncio

from orchestrator.client.blocking import BlockingClient
from orchestrator.client.requests import ClientOptions
from orchestrator.testing import environment
from tests.histories.app import Counter, app


def test_the_same_calls_without_await() -> None:
    async def serve() -> None:
        async with environment(app, second_process=False) as client:
            transport = client.calls.caller._transport
            again = type(transport)(transport._cluster, app.name, transport.partitions)
            await asyncio.to_thread(use, again)

    def use(transport: object) -> None:
        with BlockingClient.connect(app, transport=transport, options=ClientOptions()) as client:  # type: ignore[arg-type]
            counter = client.entity(Counter, "blocking")
            assert counter.call(Counter.grow, 2) == 2
            assert counter.send(Counter.grow, 3).result() == 5
            assert counter.query(Counter.doubled, plus=1) == 11
            assert counter.describe().calls == 2
            once = client.using(command_id="once").entity(Counter, "blocking")
            assert once.call(Counter.grow, 1) == once.call(Counter.grow, 1) == 6

    asyncio.run(serve())
