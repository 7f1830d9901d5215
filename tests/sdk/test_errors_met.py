"""What workflow code meets, caught where it stands: the very class, and no other that derives from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import (
    ChildCancelled,
    ChildFailed,
    Orchestrator,
    StepCancelled,
    StepFailed,
    StepTimeout,
    WorkflowFailed,
    continue_as_new,
)
from orchestrator.core import events as e
from orchestrator.core.values import Failure
from orchestrator.sdk.context import ContinueAsNewRequested
from orchestrator.sdk.loop import Evicted, Stopped
from tests.sdk.driver import Driver

app = Orchestrator("errors-met")
met: list[BaseException] = []


@app.step
async def work() -> int:
    return 1


@app.workflow
async def sub() -> int:
    return 1


async def noted(call: Callable[[], Any]) -> None:
    """Keep what a call raises."""
    try:
        await call()
    except BaseException as error:
        met.append(error)
        raise


@app.workflow
async def of_a_step() -> None:
    await noted(work)


@app.workflow
async def of_a_child() -> None:
    await noted(sub)


@app.workflow
async def on_and_on(n: int) -> None:
    async def again() -> None:
        continue_as_new(n + 1)

    await noted(again)


@app.workflow
async def forbidden() -> None:
    async def leave() -> None:
        await asyncio.to_thread(print)

    await noted(leave)


def only() -> BaseException:
    """The one error that was met."""
    (error,) = met
    met.clear()
    return error


def after(workflow: Any, body: e.Body) -> BaseException:
    """What the run's code gets when this is delivered."""
    met.clear()
    Driver(workflow).deliver(body)
    return only()


def test_a_steps_ends() -> None:
    failed = after(of_a_step, e.StepFailed("0:1", 1, Failure("bank.Refused", "no")))
    assert type(failed) is StepFailed
    assert failed.type == "bank.Refused"
    timeout = after(of_a_step, e.StepFailed("0:1", 1, Failure("StepTimeout", "late"), "start_to_close"))
    assert type(timeout) is StepTimeout
    assert type(after(of_a_step, e.StepCancelled("0:1", 1))) is StepCancelled
    of_the_run = after(of_a_step, e.StepFailed("0:1", 1, Failure("WorkflowFailed", "enough")))
    assert type(of_the_run) is WorkflowFailed


@pytest.mark.parametrize("kind", ["StepCrashed", "StepInterrupted", "SendFailed", "StepNotStarted", "UnknownStep"])
def test_what_the_engine_records_arrives_under_its_name(kind: str) -> None:
    failed = after(of_a_step, e.StepFailed("0:1", 1, Failure(kind, "why")))
    assert isinstance(failed, StepFailed)
    assert (failed.type, str(failed)) == (kind, f"{kind}: why")


def test_a_lost_lease_is_a_time_out() -> None:
    assert type(after(of_a_step, e.StepFailed("0:1", 1, Failure("StepLeaseExpired", "silent")))) is StepTimeout


def test_a_childs_ends() -> None:
    refused = after(of_a_child, e.ChildFailed("0:1", "rejected", Failure("already_running", "taken")))
    assert type(refused) is ChildFailed
    assert refused.outcome == "rejected"
    cancelled = after(of_a_child, e.ChildFailed("0:1", "cancelled", Failure("CancelledError", "asked")))
    assert type(cancelled) is ChildCancelled


def test_an_eviction() -> None:
    met.clear()
    driver = Driver(of_a_step)
    driver.live.evict()
    assert type(only()) is Evicted


def test_what_is_forbidden() -> None:
    met.clear()
    verdict = Driver(forbidden).verdict
    assert verdict is not None
    assert verdict.kind == "forbidden"
    assert type(only()) is Stopped


def test_going_on_as_new() -> None:
    met.clear()
    Driver(on_and_on, 1)
    assert type(only()) is ContinueAsNewRequested
