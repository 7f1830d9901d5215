"""Code that catches every refusal and asks again: an eviction comes to its end all the same."""

from __future__ import annotations

import asyncio
import contextlib

from orchestrator import Orchestrator
from tests.sdk.driver import Driver

app = Orchestrator("stubborn")


@app.step
async def knock() -> int:
    return 1


@app.workflow
async def never_gives_up() -> int:
    while True:
        with contextlib.suppress(BaseException):
            await knock()


@app.workflow
async def never_wakes_up() -> int:
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(1)


def test_a_run_that_swallows_its_eviction_is_left_behind() -> None:
    for workflow in (never_gives_up, never_wakes_up):
        driver = Driver(workflow)
        issued = list(driver.live._loop.commands)
        driver.live.evict()
        assert driver.live._loop.waiting == {}
        assert driver.live._loop.commands == issued
