"""Sagas: compensations run in reverse, once, and no cancellation reaches them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator import CompensationFailed, ConfigurationError, Orchestrator, Saga, StepFailed, continue_as_new
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Failure
from tests.sdk.driver import Driver, at_every_prefix

app = Orchestrator("sagas")


@app.error
class Declined(Exception):
    """What fails these runs."""


@app.step
async def book(what: str) -> str:
    if what == "declined":
        raise Declined(what)
    return f"{what}-1"


@app.step
async def undo(what: str) -> None:
    if what == "stuck-1":
        raise Declined("no")


@app.workflow
async def travels(whats: list[str]) -> list[str]:
    async with Saga() as saga:
        return [await saga.do(book(what), undo) for what in whats]


@app.workflow
async def at_once(whats: list[str]) -> list[str]:
    async with Saga() as saga:
        return list(await asyncio.gather(*(saga.do(book(what), undo) for what in whats)))


def undone(driver: Driver) -> list[str]:
    """Arguments of the compensations, in their order."""
    found = driver.recorded(e.StepScheduled)
    return [one.arguments.data.decode() for one in found if one.name == "undo"]


def test_nothing_is_undone_when_all_is_well() -> None:
    driver = Driver(travels, ["room", "car"]).go()
    assert driver.result == ["room-1", "car-1"]
    assert undone(driver) == []
    at_every_prefix(driver)


def test_what_was_done_is_undone_in_reverse() -> None:
    driver = Driver(travels, ["room", "car", "declined"]).go()
    assert driver.failure.type == "Declined"
    assert undone(driver) == ['{"what":"car-1"}', '{"what":"room-1"}']
    assert all("test_saga.py" in one.call_site for one in driver.recorded(e.StepScheduled))
    assert [one.call_site.endswith(", compensation") for one in driver.recorded(e.StepScheduled)] == [0, 0, 0, 1, 1]
    at_every_prefix(driver)


def test_concurrent_steps_are_undone_in_reverse_of_their_ends() -> None:
    driver = Driver(at_once, ["a", "b", "declined"])
    first, second, third = driver.steps()
    driver.work(second)
    driver.work(first)
    driver.work(third)
    driver.go()
    assert undone(driver) == ['{"what":"a-1"}', '{"what":"b-1"}']
    at_every_prefix(driver)


def test_what_is_still_under_way_ends_first() -> None:
    driver = Driver(at_once, ["declined", "b"])
    first, second = driver.steps()
    driver.work(first)
    assert undone(driver) == []
    driver.work(second)
    driver.go()
    assert undone(driver) == ['{"what":"b-1"}']
    at_every_prefix(driver)


def test_a_cancellation_compensates_and_another_does_not_reach_it() -> None:
    driver = Driver(travels, ["room", "car", "plane"])
    driver.work(driver.steps()[0])
    driver.work(driver.steps()[0])
    driver.cancel()
    assert undone(driver) == ['{"what":"car-1"}']
    driver.cancel()
    driver.pending = {key: one for key, one in driver.pending.items() if one.name == "undo"}
    driver.go()
    assert undone(driver) == ['{"what":"car-1"}', '{"what":"room-1"}']
    assert isinstance(driver.end, c.CancelRun)
    at_every_prefix(driver)


def test_a_cancellation_that_comes_meanwhile_is_heard_afterwards() -> None:
    driver = Driver(travels, ["room", "declined"])
    driver.work(driver.steps()[0])
    driver.work(driver.steps()[0])
    driver.cancel()
    assert len(driver.steps()) == 1
    driver.go()
    assert isinstance(driver.end, c.CancelRun)
    at_every_prefix(driver)


def test_one_that_fails_does_not_stop_the_others_and_is_named() -> None:
    driver = Driver(travels, ["room", "stuck", "declined"]).go()
    assert undone(driver) == ['{"what":"stuck-1"}', '{"what":"room-1"}']
    assert driver.failure.type == CompensationFailed.__name__
    assert "undo: Declined: no" in driver.failure.message
    at_every_prefix(driver)


def test_a_bug_undoes_nothing() -> None:
    @app.workflow
    async def buggy() -> str:
        try:
            async with Saga() as saga:
                await saga.do(book("room"), undo)
                raise KeyError("oops")
        except KeyError:
            return "hidden"

    driver = Driver(buggy).go()
    assert undone(driver) == []
    assert driver.verdict is not None
    assert driver.verdict.kind == "bug"
    assert "left a saga" in driver.verdict.message


def test_a_bug_of_a_compensation_parks() -> None:
    @app.workflow
    async def buggy() -> None:
        async def wrong(what: str) -> None:
            raise KeyError(what)

        async with Saga() as saga:
            await saga.do(book("room"), wrong)
            await book("declined")

    driver = Driver(buggy).go()
    assert driver.verdict is not None
    assert (driver.verdict.kind, driver.end) == ("bug", None)


@pytest.mark.parametrize("how", ["timeout", "group", "by hand"])
def test_other_ways_out(how: str) -> None:
    @app.workflow
    async def flow() -> str:
        saga = Saga()
        saga.add(undo, what="first")
        try:
            if how == "by hand":
                await saga.compensate()
                await saga.compensate()
                return how
            async with saga, asyncio.timeout(5):
                if how == "timeout":
                    await asyncio.sleep(10)
                async with asyncio.TaskGroup() as group:
                    group.create_task(_declined())
        except (TimeoutError, ExceptionGroup):
            return how
        return "?"

    async def _declined() -> None:
        await book("declined")

    driver = Driver(flow).go()
    assert driver.result == how
    assert undone(driver) == ['{"what":"first"}']
    at_every_prefix(driver)


def test_continue_as_new_undoes_nothing_and_a_failed_child_everything() -> None:
    @app.workflow
    async def child(n: int) -> int:
        return n

    @app.workflow
    async def flow(n: int) -> int:
        async with Saga() as saga:
            saga.add(child, n)
            if n:
                continue_as_new(0)
            return await child(5)

    assert isinstance(Driver(flow, 1).go().end, c.ContinueAsNew)
    driver = Driver(flow, 0)
    (called,) = driver.pending.values()
    driver.pending.clear()
    driver.deliver(e.ChildFailed(f"{called.path}:{called.n}", "failed", Failure("X", "y", retryable=False)))
    (undoing,) = driver.pending.values()
    assert isinstance(undoing, c.StartChild)
    driver.complete(undoing, 0)
    assert isinstance(driver.end, c.FailRun)
    at_every_prefix(driver)


def test_outside_of_a_run() -> None:
    async def use() -> Any:
        async with Saga():
            raise StepFailed("never reached")

    with pytest.raises(ConfigurationError, match="workflow code"):
        asyncio.run(use())
