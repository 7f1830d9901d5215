"""What workflow code must not do, and what becomes of the run that does: verdict first, exception second."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator, WorkflowFailed, query, random, signal
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from tests.sdk.driver import LIVE, Driver, at_every_prefix, live_run

app = Orchestrator("bugs")
never = app.signal("never", int)


@app.step
async def add(a: int, b: int = 1) -> int:
    return a + b


def _file() -> str:
    return str(Path(tempfile.gettempdir()) / "never-written")


FORBIDDEN: dict[str, Callable[[], Any]] = {
    "socket": lambda: socket.create_connection(("127.0.0.1", 9), 0.1),
    "thread": lambda: threading.Thread(target=int).start(),
    "subprocess": lambda: subprocess.Popen([sys.executable, "-c", ""]),
    "writing": lambda: Path(_file()).write_text("x", encoding="utf-8"),
    "sleep": lambda: time.sleep(0),
    "executor": lambda: asyncio.get_running_loop().run_in_executor(None, int),
    "threadsafe": lambda: asyncio.get_running_loop().call_soon_threadsafe(int),
    "connection": lambda: asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", 9),
    "callback": lambda: asyncio.get_running_loop().call_soon(lambda: add(1)),
}


@pytest.mark.parametrize("act", FORBIDDEN)
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_forbidden_act_parks(act: str, swallowed: bool) -> None:
    @app.workflow(name=f"does-{act}-{swallowed}", on_bug="fail")
    async def does() -> int:
        try:
            FORBIDDEN[act]()
            await asyncio.sleep(0)
        except BaseException:
            if not swallowed:
                raise
        return await add(1)

    driver = Driver(does)
    assert driver.verdict is not None
    assert driver.verdict.kind == "forbidden"
    assert "test_bugs.py:" in driver.verdict.call_site
    assert not driver.pending


def test_reading_files_and_importing_is_no_crime(tmp_path: Path) -> None:
    (tmp_path / "imported_in_a_run.py").write_text("VALUE = 3\n", encoding="utf-8")

    @app.workflow(name="reads")
    async def reads() -> int:
        sys.path.insert(0, str(tmp_path))
        try:
            import imported_in_a_run as module  # type: ignore[import-not-found]
        finally:
            sys.path.remove(str(tmp_path))
        with open(module.__file__, encoding="utf-8") as file:
            return int(file.read().split()[-1])

    assert Driver(reads).result == 3


def test_outside_a_run_nothing_is_forbidden() -> None:
    time.sleep(0)
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def test_a_call_that_is_not_awaited() -> None:
    @app.workflow(name="forgets")
    async def forgets() -> int:
        add(1)  # type: ignore[unused-coroutine]
        return await add(2)

    verdict = Driver(forgets).verdict
    assert verdict is not None
    assert verdict.kind == "bug"
    assert "step add was called at test_bugs.py:" in verdict.message
    assert "never awaited" in verdict.message


def test_nothing_to_wait_for() -> None:
    @app.workflow(name="stuck")
    async def stuck() -> None:
        await asyncio.Event().wait()

    verdict = Driver(stuck).verdict
    assert verdict is not None
    assert verdict.kind == "stuck"
    assert "test_bugs.py:" in verdict.message


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_the_process_is_not_the_codes_to_end(error: BaseException) -> None:
    @app.workflow(name=f"exits-{type(error).__name__}")
    async def exits() -> None:
        async def child() -> None:
            raise error

        await asyncio.gather(child())

    verdict = Driver(exits).verdict
    assert verdict is not None
    assert verdict.kind == "bug"
    assert type(error).__name__ in verdict.message


@app.workflow
async def buggy(n: int) -> int:
    await add(n)
    return [1, 2][n]


@app.workflow(on_bug="fail")
async def buggy_fails(n: int) -> int:
    return [1, 2][n]


def test_a_bug_parks_and_names_the_line() -> None:
    verdict = Driver(buggy, 5).go().verdict
    assert verdict is not None
    assert verdict.kind == "bug"
    assert verdict.message.startswith("IndexError: list index out of range (at test_bugs.py:")


def test_a_bug_fails_where_asked() -> None:
    assert Driver(buggy_fails, 5).failure.type == "IndexError"


def test_the_result_must_be_what_the_hint_says() -> None:
    @app.workflow(name="lies")
    async def lies() -> int:
        return "seven"  # type: ignore[return-value]

    verdict = Driver(lies).verdict
    assert verdict is not None
    assert "result of workflow lies" in verdict.message


# -- class form ----------------------------------------------------------------------------------------------------


class Approval:
    """Handlers change what the main function waits for."""

    def __init__(self) -> None:
        self.by: list[str] = []
        self.changed = asyncio.Event()

    @app.run
    async def run(self, needed: int) -> list[str]:
        while len(self.by) < needed:
            await self.changed.wait()
            self.changed.clear()
        return self.by

    @signal
    def approve(self, who: str) -> None:
        self.by.append(who)
        self.changed.set()

    @signal
    async def ask(self, n: int) -> None:
        self.approve(f"number {await add(n)}")

    @signal
    def break_it(self) -> None:
        raise KeyError("broken")

    @signal
    def end_it(self) -> None:
        raise WorkflowFailed("ended")

    @query
    def count(self) -> int:
        return len(self.by)

    @query
    def sneaky(self) -> int:
        add(1)  # type: ignore[unused-coroutine]
        return 1

    @query
    def drawing(self) -> int:
        return random("named").randrange(9)


def test_the_class_form() -> None:
    driver = Driver(Approval.run, 3)
    driver.signal("approve", b'{"who":"eva"}')
    driver.signal("ask", b'{"n":4}')
    assert driver.steps()[0].path == "s3"
    assert driver.live.talk.query("count", Payload(data=b"{}")).data == b"1"
    driver.go()
    driver.signal("approve", b'{"who":"adam"}')
    assert driver.result == ["eva", "number 5", "adam"]
    at_every_prefix(driver)


def test_queries_only_read() -> None:
    live = Driver(Approval.run, 1).live
    for name in ("sneaky", "drawing"):
        with pytest.raises(PermissionError, match=name):
            live.talk.query(name, Payload(data=b"{}"))
    with pytest.raises(LookupError, match="count, drawing, sneaky"):
        live.talk.query("nothing", Payload(data=b"{}"))


def test_a_handlers_bug_parks_and_its_decision_fails() -> None:
    verdict = Driver(Approval.run, 1)
    verdict.signal("break_it", b"{}")
    assert verdict.verdict is not None
    assert "KeyError" in verdict.verdict.message
    failing = Driver(Approval.run, 1)
    failing.signal("end_it", b"{}")
    assert failing.failure.message == "ended"


def test_an_object_that_cannot_be_made_parks() -> None:
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no")

        @app.run
        async def run(self) -> None:
            await add(1)

    verdict = Driver(Broken.run).verdict
    assert verdict is not None
    assert verdict.kind == "bug"


def test_an_answer_given_by_the_function() -> None:
    asked = app.query("asked", dict[str, int])

    @app.workflow(name="answers")
    async def answers() -> None:
        seen = {"a": 1}
        asked.answer(lambda: seen)
        seen["a"] = await add(1)
        await never.wait()

    driver = Driver(answers).go()
    assert driver.live.talk.query("asked", Payload()).data == b'{"a":2}'


# -- eviction ------------------------------------------------------------------------------------------------------


@app.workflow
async def untidy() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield await add(1)
            yield await add(2)
        finally:
            await add(99)

    try:
        async for _ in numbers():
            await add(3)
            await never.wait()
    except BaseException:
        await asyncio.gather(add(97), add(96), return_exceptions=True)
        raise
    finally:
        await add(98)
        await asyncio.sleep(5)


def test_eviction_issues_nothing() -> None:
    import gc

    one = Driver(untidy)
    one.work(one.steps()[0])
    one.work(one.steps()[0])
    assert one.live.waiting == "waits for signal never"

    @app.workflow(name="collects")
    async def collects() -> int:
        gc.collect()
        return await add(1)

    one.live.evict()
    LIVE.remove(one.live)
    del one.live
    other = Driver(collects)
    assert [step.name for step in other.steps()] == ["add"]
    assert other.verdict is None


def test_an_evicted_run_has_no_verdict_of_another() -> None:
    first, second = Driver(untidy), Driver(untidy)
    first.live.evict()
    turn = second.work(second.steps()[0])
    assert turn.verdict is None
    assert len(turn.commands) == 1


def test_a_dropped_run_leaves_nothing_behind() -> None:
    @app.workflow(name="maps-and-goes")
    async def maps() -> list[int]:
        return await add.map(range(5), concurrency=2)

    driver = Driver(maps)
    driver.live.evict()
    assert driver.live._loop.tasks == {} or all(
        task.get_coro().cr_frame is None for task in driver.live._loop.tasks.values()
    )


def test_a_replayed_run_may_be_closed_already() -> None:
    driver = Driver(buggy, 0).go()
    live = live_run(driver.code, driver.started)
    for delivery in [one for one in driver.history if isinstance(one.body, e.RunStarted | e.StepCompleted)]:
        turn = live.deliver(delivery)
    assert isinstance(turn.commands[-1], c.CompleteRun)
    assert live.closed
