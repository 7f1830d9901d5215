"""Code that no longer does what history has: found, and named to the place. Code that merely moved: accepted."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from orchestrator import ConfigurationError, Orchestrator, now, random, uuid4
from orchestrator.core import events as e
from orchestrator.errors import MissingHint
from tests.sdk.driver import Driver, at_every_prefix, replay, verdict_of

app = Orchestrator("diverges")


@app.step
async def charge(order: str, cents: int = 5) -> str:
    return f"{order}/{cents}"


@app.step
async def pack(item: str) -> int:
    return len(item)


@app.step(compare="name")
async def log(line: str) -> None:
    return None


@app.workflow
async def child(n: int) -> int:
    return n


Body = Callable[[], Awaitable[Any]]


async def _original() -> None:
    await charge("7")
    await asyncio.sleep(5)
    await pack("pen")
    await child(1)


async def _added() -> None:
    await charge("7")
    await pack("new")
    await asyncio.sleep(5)
    await pack("pen")
    await child(1)


async def _removed() -> None:
    await asyncio.sleep(5)
    await pack("pen")
    await child(1)


async def _renamed() -> None:
    await log("7")
    await asyncio.sleep(5)
    await pack("pen")
    await child(1)


async def _reordered() -> None:
    await charge("7")
    await pack("pen")
    await asyncio.sleep(5)
    await child(1)


async def _other_arguments() -> None:
    await charge("8")
    await asyncio.sleep(5)
    await pack("pen")
    await child(1)


async def _no_timer() -> None:
    await charge("7")
    await pack("pen")
    await child(1)


async def _other_child() -> None:
    await charge("7")
    await asyncio.sleep(5)
    await pack("pen")
    await child(2)


async def _no_child() -> None:
    await charge("7")
    await asyncio.sleep(5)
    await pack("pen")


async def _default_spelled_out() -> None:
    await charge("7", cents=5)
    await asyncio.sleep(5)
    await pack("pen")
    await child(1)


async def _longer_sleep() -> None:
    await charge("7")
    await asyncio.sleep(9)
    await pack("pen")
    await child(1)


def version(body: Body) -> Any:
    """The same workflow with another body, as after a deploy."""

    @app.workflow(name="flow")
    async def flow() -> None:
        await body()

    return flow


def recorded(body: Body) -> Driver:
    """A finished history."""
    driver = Driver(version(body)).go()
    waiting = next(iter(driver.pending.values()), None)
    if waiting is not None:
        driver.complete(waiting, 1)
    assert driver.end is not None
    return driver


MATRIX: list[tuple[Body, tuple[str, ...]]] = [
    (_added, ("timer 0:2", "history has timer", "the code now does step 'pack'")),
    (_removed, ("step 0:1", "history has step 'charge'", "the code now does timer")),
    (_renamed, ("step 0:1", "history has step 'charge'", "the code now does step 'log'")),
    (_reordered, ("timer 0:2", "history has timer", "step 'pack'")),
    (_other_arguments, ("step 0:1", "with other arguments", '{"order":"8"}, not {"order":"7"}')),
    (_no_timer, ("timer 0:2", "history has timer", "step 'pack'")),
    (_other_child, ("child workflow 0:4", "with other arguments", '{"n":2}, not {"n":1}')),
    (_no_child, ("child workflow 0:4", "history has child workflow 'child'", "the code now does the run's result")),
]


@pytest.mark.parametrize(("body", "says"), MATRIX, ids=lambda one: getattr(one, "__name__", ""))
def test_the_message_names_the_place(body: Body, says: tuple[str, ...]) -> None:
    history = recorded(_original)
    verdict = verdict_of(history, version(body).code)
    assert verdict.kind == "diverged"
    for part in says:
        assert part in verdict.message
    assert "test_divergence.py:" in verdict.message


@pytest.mark.parametrize("body", [_original, _default_spelled_out, _longer_sleep])
def test_equal_enough(body: Body) -> None:
    history = recorded(_original)
    replay(history.history, version(body).code)


def test_the_way_back_is_checked_too() -> None:
    verdict = verdict_of(recorded(_no_child), version(_original).code)
    assert "history has the run's result" in verdict.message
    assert "child workflow 'child'" in verdict.message


def test_compare_by_name() -> None:
    async def first() -> None:
        await log("a")

    async def second() -> None:
        await log("b")

    replay(recorded(first).history, version(second).code)


# -- chance, time and versions -------------------------------------------------------------------------------------


@app.workflow
async def draws(early: bool = False) -> list[str]:
    if early:
        random().random()
    first = [str(uuid4()), str(random().random()), now().isoformat()]
    await charge("1")
    return [*first, str(uuid4()), str(random("named").random()), now().isoformat()]


def test_chance_and_time_repeat() -> None:
    driver = Driver(draws).go()
    assert len(set(driver.result[:2] + driver.result[3:5])) == 4
    at_every_prefix(driver)


def test_a_new_draw_shifts_nothing_beyond_the_next_step() -> None:
    plain, shifted = Driver(draws).go().result, Driver(draws, early=True).go().result
    assert plain[0] != shifted[0]
    assert plain[3:5] == shifted[3:5]


def test_versions() -> None:
    @app.workflow(name="versioned", version=2)
    async def newest() -> str:
        return await charge("new")

    @newest.older(version=1)
    async def older() -> str:
        return await charge("old")

    assert app.registry.workflow("versioned") is newest.code
    assert app.registry.workflow("versioned", 1) is older.code
    assert app.registry.workflow("versioned", 3) is None
    old = Driver(older).go()
    replay(old.history, older.code)
    assert "other arguments" in verdict_of(old, newest.code).message


@pytest.mark.parametrize(("newest", "older"), [(1, 1), (2, 2), (2, 5)])
def test_a_version_that_is_not_older_replaces_nothing(newest: int, older: int) -> None:
    mine = Orchestrator("versions")

    async def code() -> str:
        return "new"

    async def other() -> str:
        return "old"

    made = mine.workflow(name="invoice", version=newest)(code)
    said = f"workflow invoice: version {older} is not older than version {newest}.*version={older + 1}"
    with pytest.raises(ConfigurationError, match=said):
        made.older(version=older)
    assert [found.fn for found in mine.registry.workflows()] == [code]
    with pytest.raises(ConfigurationError, match="numbered from 1, not 0"):
        made.older(version=0)(other)
    with pytest.raises(ConfigurationError, match="numbered from 1, not 0"):
        mine.workflow(version=0)(other)
    assert [found.fn for found in mine.registry.workflows()] == [code]


def test_the_same_name_from_another_module() -> None:
    async def twice() -> int:
        return 1

    app.step(name="twice")(twice)
    app.step(name="twice")(twice)
    twice.__module__ = "elsewhere"
    with pytest.raises(ConfigurationError, match=r"twice.*elsewhere"):
        app.step(name="twice")(_from_here)


async def _from_here() -> int:
    return 2


def test_missing_hints_are_found_before_the_engine_starts() -> None:
    other = Orchestrator("hintless")

    @other.step
    def bare(a, b: int) -> int:  # type: ignore[no-untyped-def]
        return b

    with pytest.raises(MissingHint, match=r"bare.*'a'"):
        other.registry.check()


def test_declared_errors_have_names_of_their_own() -> None:
    with pytest.raises(ConfigurationError, match="TimeoutError"):
        app.error(type("TimeoutError", (Exception,), {}))
    with pytest.raises(ConfigurationError, match="Exit"):
        app.error(type("Exit", (BaseException,), {}))


# -- another hash seed ---------------------------------------------------------------------------------------------

SETS = """
import sys
sys.path.insert(0, {root!r})
from orchestrator import Orchestrator
from orchestrator.core.events import StepScheduled
from tests.sdk.driver import Driver
app = Orchestrator("sets")
@app.step
async def put(x: str) -> None: ...
@app.workflow
async def unordered() -> None:
    for x in {{"a", "b", "c", "d", "e", "f"}}:
        await put(x)
print([one.arguments.data for one in Driver(unordered).go().recorded(StepScheduled)])
"""


@pytest.mark.slow
def test_another_hash_seed_gives_another_order() -> None:
    root = str(Path(__file__).resolve().parents[2])
    orders = {
        subprocess.run(
            [sys.executable, "-c", SETS.format(root=root)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(orders) > 1


# -- histories made at random --------------------------------------------------------------------------------------

Plan = st.recursive(
    st.sampled_from(["step", "sleep", "timeout", "fail"]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(tuple)
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("together", *parts))
    ),
    max_leaves=8,
)


@app.step
async def fails(n: int) -> int:
    raise ValueError(str(n))


async def carry_out(plan: Any) -> int:
    """A plan as workflow code."""
    if plan == "step":
        return await pack("abc")
    if plan == "sleep":
        await asyncio.sleep(3)
        return 1
    if plan == "timeout":
        try:
            return await asyncio.wait_for(pack("abcd"), 2)
        except TimeoutError:
            return -1
    if plan == "fail":
        try:
            return await fails(1)
        except ValueError:
            return 7
    if plan == "together":
        return 0
    if plan[0] == "together":
        return sum(await asyncio.gather(*(carry_out(part) for part in plan)))
    total = 0
    for part in plan:
        total += await carry_out(part)
    return total


@settings(max_examples=60, deadline=None)
@given(plan=Plan, choices=st.lists(st.integers(0, 5), min_size=30, max_size=30), cancel_at=st.integers(0, 12))
def test_any_history_repeats_from_any_point(plan: Any, choices: list[int], cancel_at: int) -> None:
    async def body() -> None:
        await carry_out(plan)

    driver = Driver(version(body))
    for number, choice in enumerate(choices):
        if driver.end is not None:
            break
        if number == cancel_at:
            driver.cancel()
            continue
        steps, timers = driver.steps(), driver.timers()
        if timers and (not steps or choice % 3 == 0):
            driver.fire()
        elif steps:
            driver.work(steps[choice % len(steps)])
    assert driver.verdict is None
    at_every_prefix(driver)
    assert len(driver.recorded(e.RunStarted)) == 1
