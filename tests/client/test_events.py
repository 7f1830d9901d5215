"""Events of the application by the blocking client, against an engine in memory."""

from __future__ import annotations

import asyncio

from orchestrator.client.blocking import BlockingClient
from orchestrator.client.requests import ClientOptions
from orchestrator.testing import environment
from tests.histories.app import app, heard


def test_the_same_calls_without_await() -> None:
    async def serve() -> None:
        async with environment(app, second_process=False) as client:
            transport = client.calls.caller._transport
            again = type(transport)(transport._cluster, app.name, transport.partitions)
            await asyncio.to_thread(use, again)

    def use(transport: object) -> None:
        with BlockingClient.connect(app, transport=transport, options=ClientOptions()) as client:  # type: ignore[arg-type]
            first = client.send_event(heard, {"n": 5}, id="five")
            assert client.send_event("heard", {"n": 5}, id="five").outcome == first.outcome
            (kept,) = client.events(heard).events
            assert (kept.id, kept.payload) == ("five", {"n": 5})
            assert client.events("unheard") == ("unheard", 0, ())

    asyncio.run(serve())
