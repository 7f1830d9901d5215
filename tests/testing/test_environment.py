"""The tutorial's first page as it stands: plain calls, and a week in milliseconds."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from orchestrator import RunParked
from orchestrator.testing import environment
from tests.typing import shop

pytestmark = pytest.mark.slow


def test_a_step_is_a_plain_call() -> None:
    asyncio.run(shop.plain())


def test_a_week_passes() -> None:
    asyncio.run(shop.week())


def test_the_signal_and_the_refusal() -> None:
    async def run() -> None:
        async with environment(shop.app) as env:
            handle = await env.start(shop.order.options(id="o-1"), "7", ["pen"], cents=20_000)
            await handle.signal(shop.approved, True)
            paid = await handle.result()
            assert paid.startswith("paid 20000 for 7 once, by o-1/")
            assert paid.endswith(": 3 g")
            assert await env.execute(shop.order, "8", ["pen"], cents=20_000) == "refused"

    asyncio.run(run())


def test_a_declared_error_arrives_as_itself() -> None:
    async def declined(order_id: str, cents: int) -> str:
        raise shop.CardDeclined("no money")

    async def run() -> None:
        async with environment(shop.app) as env:
            with env.replace(shop.charge, declined):
                assert await env.execute(shop.order, "7", ["pen"], cents=1) == "declined"

    asyncio.run(run())


def test_a_bug_raises_at_once() -> None:
    def broken(order_id: str, cents: int) -> str:
        return 5  # type: ignore[return-value]

    async def run() -> None:
        async with environment(shop.app) as env:
            env.skip(timedelta(days=1))
            with env.replace(shop.charge, broken), pytest.raises(Exception, match=r"comes back as|is no str") as error:
                await env.execute(shop.order, "7", ["pen"], cents=1)
            assert not isinstance(error.value, RunParked)

    asyncio.run(run())
