"""asyncio's own tools in workflow code: each works, and each repeats itself from any point of its history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from orchestrator import Failed, Orchestrator, StepCancelled, Workflow
from orchestrator.core import commands as c, events as e
from orchestrator.sdk.loop import RunTask
from orchestrator.sdk.messages import Came
from tests.sdk.driver import Driver, at_every_prefix

app = Orchestrator("concurrent")
go = app.signal("go", int)


@app.step
async def add(a: int, b: int = 1) -> int:
    return a + b


@app.step
def odd_only(n: int) -> int:
    if n % 2 == 0:
        raise ValueError(f"{n} is even")
    return n


@app.step(cancellation="wait")
async def patient(n: int) -> int:
    return n


@app.step(cancellation="abandon")
async def left_alone(n: int) -> int:
    return n


@app.workflow
async def gathers() -> list[int]:
    a, b = await asyncio.gather(add(1), add(2))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(add(n)) for n in (10, 20)]
    return [a, b, *(task.result() for task in tasks)]


@app.workflow
async def completes() -> list[int]:
    async def one(n: int) -> int:
        return await add(n)

    return [await done for done in asyncio.as_completed([one(5), one(3), one(4)])]


@app.workflow
async def waits() -> list[int]:
    tasks = [asyncio.create_task(add(n)) for n in range(6)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return [task.result() for task in done]


@app.workflow
async def limits() -> list[int]:
    a = await asyncio.wait_for(add(1), 5)
    async with asyncio.timeout(5):
        b = await add(2)
    return [a, b]


@app.workflow
async def shares() -> list[int]:
    lock, room, seen = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Queue[int]()
    total = 0

    async def one(n: int) -> None:
        nonlocal total
        async with room:
            got = await add(n)
        async with lock:
            total += await add(got, 0)
        await seen.put(got)

    await asyncio.gather(*(one(n) for n in range(5)))
    return [total, *[seen.get_nowait() for _ in range(5)]]


@app.workflow
async def maps() -> list[int]:
    good = await add.map([1, 2, 3, 4, 5], concurrency=2)
    mixed = await odd_only.map([1, 2, 3], on_error="collect")
    return good + [-1 if isinstance(one, Failed) else one for one in mixed]


@app.workflow
async def generates() -> list[int]:
    async def numbers() -> AsyncIterator[int]:
        for n in range(3):
            yield await add(n)

    return [n async for n in numbers()]


@app.workflow
async def sleeps_in_tasks() -> list[int]:
    async def one(n: int) -> int:
        await asyncio.sleep(10 - n)
        return await add(n)

    return await asyncio.gather(*(one(n) for n in range(3)))


ALL: list[tuple[Workflow[[], list[int]], list[int]]] = [
    (gathers, [2, 3, 11, 21]),
    (completes, [6, 4, 5]),
    (waits, [1]),
    (limits, [2, 3]),
    (shares, [15, 1, 2, 3, 4, 5]),
    (maps, [2, 3, 4, 5, 6, 1, -1, 3]),
    (generates, [1, 2, 3]),
    (sleeps_in_tasks, [1, 2, 3]),
]


@pytest.mark.parametrize(("workflow", "expected"), ALL, ids=lambda one: getattr(one, "__name__", ""))
def test_it_works_and_repeats(workflow: Workflow[[], list[int]], expected: list[int]) -> None:
    driver = Driver(workflow).go()
    assert driver.result == expected
    at_every_prefix(driver)


def test_map_keeps_its_limit() -> None:
    driver = Driver(maps)
    while len(driver.recorded(e.StepCompleted)) < 5:
        assert len(driver.steps()) <= 2
        driver.work(driver.steps()[-1])


def test_map_cancels_the_rest_after_an_error() -> None:
    @app.workflow(name="map-fails")
    async def fails() -> list[int]:
        return await odd_only.map([1, 2, 3, 5])

    driver = Driver(fails)
    driver.work(driver.steps()[1])
    assert driver.failure.type == "ValueError"
    assert len(driver.recorded(e.StepCancelRequested)) == 3


def test_a_task_group_aborts_and_fails_the_run() -> None:
    @app.workflow(name="group-fails")
    async def fails() -> None:
        async with asyncio.TaskGroup() as group:
            for n in (1, 2, 3):
                group.create_task(odd_only(n))

    driver = Driver(fails)
    driver.work(driver.steps()[1])
    assert (driver.failure.type, driver.failure.message) == ("ValueError", "2 is even")
    assert {one.step for one in driver.recorded(e.StepCancelRequested)} == {"0:1", "0:3"}
    at_every_prefix(driver)


def test_a_timer_set_and_cancelled_in_one_turn_writes_nothing() -> None:
    @app.workflow(name="brief-timer")
    async def brief() -> int:
        try:
            async with asyncio.timeout(5):
                pass
        finally:
            return await add(1)  # noqa: B012  # asyncio.timeout is what is under test

    assert Driver(brief).go().recorded(e.TimerSet) == []


def test_the_time_out_cancels_the_step_and_the_result_the_timer() -> None:
    @app.workflow(name="too-late")
    async def too_late() -> str:
        await asyncio.wait_for(add(1), 5)
        try:
            async with asyncio.timeout(5):
                await add(2)
        except TimeoutError:
            return "late"
        return "in time"

    driver = Driver(too_late)
    driver.work(driver.steps()[0])
    assert len(driver.recorded(e.TimerCancelled)) == 1
    driver.fire()
    assert driver.result == "late"
    assert len(driver.recorded(e.StepCancelRequested)) == 1
    at_every_prefix(driver)


@app.workflow
async def patient_one() -> str:
    try:
        async with asyncio.timeout(5):
            return str(await patient(1))
    except TimeoutError:
        return "late"


def test_mode_wait_goes_on_waiting_for_the_end() -> None:
    driver = Driver(patient_one)
    driver.fire()
    assert driver.end is None
    assert driver.recorded(e.StepCancelRequested)
    driver.deliver(e.StepCancelled("0:2" if driver.steps()[0].n == 2 else "0:1", 1))
    assert driver.result == "late"
    at_every_prefix(driver)


def test_mode_wait_takes_a_result_that_comes_first() -> None:
    driver = Driver(patient_one)
    driver.fire()
    driver.work(driver.steps()[0])
    assert driver.result == "1"
    assert len(driver.recorded(e.StepCancelRequested)) == 1
    at_every_prefix(driver)


def test_mode_abandon_says_nothing_to_the_step() -> None:
    @app.workflow(name="abandons")
    async def abandons() -> str:
        try:
            return str(await asyncio.wait_for(left_alone(1), 5))
        except TimeoutError:
            return "late"

    driver = Driver(abandons)
    driver.fire()
    assert driver.result == "late"
    assert driver.recorded(e.StepCancelRequested) == []


def test_a_step_cancelled_from_elsewhere() -> None:
    @app.workflow(name="cancelled-elsewhere")
    async def seen() -> str:
        try:
            return str(await add(1))
        except StepCancelled:
            return "cancelled"

    driver = Driver(seen)
    driver.deliver(e.StepCancelled("0:1", 1))
    assert driver.result == "cancelled"


def test_first_wins() -> None:
    @app.workflow(name="first-wins")
    async def first() -> int:
        tasks = {asyncio.create_task(add(1)), asyncio.create_task(add(2))}
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        return done.pop().result()

    driver = Driver(first)
    driver.work(driver.steps()[1])
    assert driver.result == 3
    assert [type(event.body) for event in driver.history[-2:]] == [e.StepCancelRequested, e.RunCompleted]


# -- signals -------------------------------------------------------------------------------------------------------


@app.workflow
async def signalled() -> list[int | None]:
    first = await go.wait()
    await add(1)
    return [first, await go.wait(timeout=timedelta(days=3)), await go.wait(timeout=timedelta(seconds=1))]


def test_signals_before_and_after_the_wait() -> None:
    driver = Driver(signalled)
    driver.signal("go", b"7")
    driver.signal("go", b"8")
    driver.work(driver.steps()[0])
    driver.fire()
    assert driver.result == [7, 8, None]
    at_every_prefix(driver)


def test_a_signal_ends_the_time_out() -> None:
    driver = Driver(signalled)
    driver.signal("go", b"7")
    driver.work(driver.steps()[0])
    assert driver.timers()[0].due_at_ms == driver.now + 3 * 86_400_000
    driver.signal("go", b"9")
    driver.fire()
    assert driver.result == [7, 9, None]


def test_a_signal_taken_by_a_cancelled_task_is_kept() -> None:
    @app.workflow(name="kept")
    async def kept() -> int:
        async def other() -> None:
            await stop.wait()
            task.cancel()

        task = asyncio.create_task(go.wait())
        helper = asyncio.create_task(other())
        await add(1)
        loser = await asyncio.gather(task, helper, return_exceptions=True)
        assert isinstance(loser[0], asyncio.CancelledError)
        return await go.wait()

    stop = app.signal("stop", int)
    driver = Driver(kept)
    driver.live.mailbox.put("stop", Came(1, driver.code.signature.result.encode(1)))
    driver.signal("go", b"5")
    driver.go()
    assert driver.result == 5


# -- cancellation --------------------------------------------------------------------------------------------------


@app.workflow
async def cleans_up() -> int:
    try:
        return await add(1)
    finally:
        await asyncio.shield(add(100))


def test_cancel_runs_the_clean_up() -> None:
    driver = Driver(cleans_up)
    driver.cancel()
    assert [step.step for step in driver.recorded(e.StepCancelRequested)] == ["0:1"]
    driver.pending.pop("0:1")
    driver.work(driver.steps()[0])
    assert isinstance(driver.end, c.CancelRun)
    at_every_prefix(driver)


def test_code_may_refuse_to_be_cancelled() -> None:
    @app.workflow(name="stubborn")
    async def stubborn() -> str:
        try:
            await add(1)
        except asyncio.CancelledError:
            return "no"
        return "done"

    driver = Driver(stubborn)
    driver.cancel()
    assert driver.result == "no"


def test_cancelled_error_without_a_request_is_a_bug() -> None:
    @app.workflow(name="cancels-itself")
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    verdict = Driver(cancels_itself).verdict
    assert verdict is not None
    assert verdict.kind == "bug"


def test_tasks_of_different_runs_are_never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio keeps those of the whole process in one set, and compares there what hashes alike.

    In Python, so that another thread may change the set meanwhile: CPython 3.11 was seen to die of that.
    """
    compared: list[object] = []

    def note(task: RunTask, other: object) -> bool:
        compared.append(other)
        return task is other

    monkeypatch.setattr(RunTask, "__eq__", note)
    tasks = [Driver(gathers).live._loop.main for _ in range(50)]
    assert not compared
    assert {hash(task) for task in tasks} == {1}, "within a run they hash by the number of their creation"
