"""Workflow code and steps that do what no row, event or message can hold: their run is parked or failed, alone."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Orchestrator, StepFailed, set_summary
from orchestrator.core import events as e
from orchestrator.core.commands import CancelWorkflow
from orchestrator.engine.partition import State
from tests.engine.rig import Rig

pytestmark = pytest.mark.slow

Make = Callable[..., Rig]
HALF = "half \ud800"
"""A lone surrogate: Python has such texts, UTF-8 has not."""

app = Orchestrator("poison-code")


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no word")


@app.step
async def double(x: int) -> int:
    """A neighbour."""
    return 2 * x


@app.step(retry=1)
async def half_said() -> int:
    """Fails with half a character."""
    raise ValueError(HALF)


@app.step(retry=1)
async def mute() -> int:
    """Fails without a message."""
    raise Mute


@app.step(retry=1)
async def bottomless() -> int:
    """Calls itself."""
    return deeper(0)


@app.step(retry=1)
async def circular() -> list[object]:
    """Returns a list that holds itself."""
    found: list[object] = []
    found.append(found)
    return found


def deeper(n: int) -> int:
    """For ever."""
    return deeper(n + 1)


async def deeper_still(n: int) -> int:
    """For ever, and awaited."""
    return await deeper_still(n + 1)


def nested(levels: int) -> list[object]:
    """A list in a list, so many times."""
    found: list[object] = []
    for _ in range(levels):
        found = [found]
    return found


@app.workflow
async def doubled(x: int) -> int:
    return await double(x)


@app.workflow
async def sleeps(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


@app.workflow
async def does(what: str) -> list[object]:
    if what == "recursion":
        return [deeper(0)]
    if what == "awaited recursion":
        return [await deeper_still(0)]
    if what == "nested result":
        return nested(5_000)
    if what == "circular result":
        return await circular_here()
    if what == "half a character":
        raise ValueError(HALF)
    if what == "no message":
        raise Mute
    if what == "child of half an id":
        return [await doubled.options(id=HALF)(1)]
    if what == "summary of half a character":
        set_summary(HALF)
        await double(1)
    if what == "base exception":
        raise BaseException("neither an error nor an exit")
    if what == "generator's end":
        raise GeneratorExit
    while True:
        try:
            await asyncio.sleep(0)
        except BaseException:
            continue


async def circular_here() -> list[object]:
    """Holds itself."""
    found: list[object] = []
    found.append(found)
    return found


@app.workflow(on_bug="fail")
async def fails(what: str) -> int:
    if what == "half":
        raise ValueError(HALF)
    if what == "mute":
        raise Mute
    return deeper(0)


@app.workflow
async def calls(what: str) -> str:
    step: Any = {"half_said": half_said, "mute": mute, "bottomless": bottomless, "circular": circular}[what]
    try:
        return str(await step())
    except (StepFailed, ValueError, RecursionError) as error:
        return type(error).__name__


def neighbours_go_on(one: Rig) -> None:
    """The partition is as it was, under the claim that it had."""
    one.start("neighbour", doubled, 21)
    assert one.result("neighbour") == b"42"
    assert one.engines[0].partitions[0].state is State.OWNED
    assert len([batch for batch in one.batches() if batch.is_claim]) == 1


PARKS = {
    "recursion": "RecursionError",
    "awaited recursion": "RecursionError",
    "nested result": "cannot be written as list",
    "circular result": "Circular reference",
    "half a character": r"ValueError: half \?",
    "no message": "its message cannot be had: RuntimeError",
    "child of half an id": "lone surrogate",
    "summary of half a character": "lone surrogate",
    "base exception": "neither an error nor an exit",
    "generator's end": "GeneratorExit",
    "a loop that swallows its end": "longer than a second",
}


@pytest.mark.contract("bugs", "bugs-endless")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", PARKS)
def test_poisonous_workflow_code_parks_its_own_run(rig: Make, what: str) -> None:
    one = rig(app, 1)
    one.engine()
    one.start("poison", does, what)
    message = one.parked("poison")
    assert re.search(PARKS[what], message), message
    neighbours_go_on(one)


@pytest.mark.parametrize("what", ["half", "mute", "recursion"])
def test_poisonous_code_that_is_to_fail_fails(rig: Make, what: str) -> None:
    one = rig(app, 1)
    one.engine()
    one.start("poison", fails, what)
    assert one.outcome("poison").code == "failed"
    neighbours_go_on(one)


@pytest.mark.parametrize("what", ["half_said", "mute", "bottomless", "circular"])
def test_a_poisonous_step_fails_alone(rig: Make, what: str) -> None:
    one = rig(app, 1)
    one.engine()
    one.start("poison", calls, what)
    assert one.outcome("poison").code == "completed"
    assert len(one.bodies(e.StepFailed, "poison")) == 1
    neighbours_go_on(one)


@pytest.mark.parametrize("seconds", [1e14, 1e300, math.inf])
def test_a_sleep_beyond_all_time_is_a_long_sleep(rig: Make, seconds: float) -> None:
    one = rig(app, 1)
    one.engine()
    one.start("sleeper", sleeps, seconds)
    neighbours_go_on(one)
    assert one.kinds("sleeper") == ["RunStarted", "TimerSet"]
    one.accepted("sleeper", CancelWorkflow())
    assert one.outcome("sleeper").code == "cancelled"
