"""Garbage that is collected in the middle of a turn is not the run's: what it does leaves no trace there."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from tests.sdk.driver import Driver, at_every_prefix

app = Orchestrator("garbage")
said: list[str] = []
dropped: list[Callable[[], Any]] = []
"""What somebody else in this process let go of while the code ran: what its finalizer does."""


class Client:
    """Somebody's, in a cycle; its finalizer does what HTTP clients do, and worse."""

    def __init__(self, finally_: Callable[[], Any]) -> None:
        self.finally_ = finally_
        self.itself = self

    def __del__(self) -> None:
        try:
            self.finally_()
            said.append("done")
        except BaseException as error:
            said.append(type(error).__name__)


async def _close() -> None:
    await asyncio.sleep(0)


def _task() -> None:
    closing = _close()
    try:
        asyncio.get_running_loop().create_task(closing)
    finally:
        closing.close()


FINALIZERS: dict[str, tuple[Callable[[], Any], str]] = {
    "a task": (_task, "RuntimeError"),
    "a timer": (lambda: asyncio.get_running_loop().call_later(1, int), "RuntimeError"),
    "a thread": (lambda: threading.Thread(target=int).start(), "done"),
    "a file": (lambda: (Path(tempfile.gettempdir()) / "orchestrator-garbage").write_text("x"), "done"),
    "a loop of its own": (lambda: asyncio.run(_close()), "done"),
    "a durable call": (lambda: add(1).close(), "done"),
}


@pytest.fixture(autouse=True)
def no_other_garbage() -> Iterator[None]:
    """Only what a test drops is finalized in it."""
    gc.collect()
    said.clear()
    yield
    dropped.clear()
    (Path(tempfile.gettempdir()) / "orchestrator-garbage").unlink(missing_ok=True)


def collect() -> None:
    """What may come at any allocation."""
    for finalizer in dropped:
        Client(finalizer)
    gc.collect(0)


@app.step
async def add(a: int, b: int = 1) -> int:
    return a + b


@app.workflow
async def goes_on() -> int:
    collect()
    asyncio.get_running_loop().call_soon(collect)
    first = await add(1)
    async with asyncio.TaskGroup() as group:
        collect()
        second = group.create_task(add(first))
    await asyncio.sleep(1)
    return second.result()


@pytest.mark.parametrize("what", FINALIZERS)
def test_a_finalizer_of_somebody_else_leaves_no_trace(what: str) -> None:
    plain = Driver(goes_on).go()
    finalizer, outcome = FINALIZERS[what]
    dropped.append(finalizer)
    garbled = Driver(goes_on).go()
    assert garbled.verdict is None
    assert [event.body for event in garbled.history] == [event.body for event in plain.history]
    assert set(said) == {outcome}
    assert len(said) == 3
    at_every_prefix(garbled)
