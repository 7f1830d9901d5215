"""Errors of steps and children as workflow code sees them, and what an uncaught one makes of the run."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import (
    ChildCancelled,
    ChildFailed,
    Orchestrator,
    StepFailed,
    StepTimeout,
    WorkflowFailed,
    continue_as_new,
)
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Failure
from tests.sdk.driver import Driver, at_every_prefix

app = Orchestrator("errors")


@app.error
class CardDeclined(Exception):
    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class Foreign(Exception):
    pass


@app.step
async def work(n: int) -> int:
    return n


@app.workflow
async def sub(n: int) -> int:
    return n


@app.workflow
async def catches() -> str:
    try:
        await work(1)
    except Exception as error:
        cause = type(error.__cause__).__name__ if error.__cause__ else ""
        return f"{type(error).__name__}|{error}|{getattr(error, 'code', '')}|{cause}"
    return "nothing"


@app.workflow
async def uncaught() -> None:
    await work(1)


MATRIX: list[tuple[BaseException | Failure, str, str]] = [
    (ValueError("no"), "ValueError|no||StepFailed", "ValueError"),
    (KeyError("k"), "KeyError|'k'||StepFailed", "KeyError"),
    (FileNotFoundError(2, "gone"), "FileNotFoundError|[Errno 2] gone||StepFailed", "FileNotFoundError"),
    (CardDeclined("broke", code=51), "CardDeclined|broke|51|StepFailed", "CardDeclined"),
    (
        Foreign("x"),
        "StepFailed|tests.sdk.test_exceptions.Foreign: x||",
        "tests.sdk.test_exceptions.Foreign",
    ),
    (ExceptionGroup("g", [ValueError("a")]), "StepFailed|ExceptionGroup: g (1 sub-exception)||", "ExceptionGroup"),
    (StopIteration(3), "StepFailed|StopIteration: 3||", "StopIteration"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "", "UnicodeDecodeError"),
]


@pytest.mark.parametrize(("error", "seen", "kind"), MATRIX, ids=lambda one: type(one).__name__)
def test_a_steps_error(error: BaseException, seen: str, kind: str) -> None:
    driver = Driver(catches)
    driver.fail(driver.steps()[0], error)
    assert driver.result == seen or (not seen and driver.result.startswith(f"{kind}|"))
    at_every_prefix(driver)
    failing = Driver(uncaught)
    failing.fail(failing.steps()[0], error)
    assert failing.failure.type == kind


def test_a_time_out() -> None:
    driver = Driver(catches)
    driver.fail(driver.steps()[0], Failure("StepTimeout", "start_to_close of 5 s is over"), "start_to_close")
    assert driver.result == "StepTimeout|start_to_close of 5 s is over||"
    assert issubclass(StepTimeout, StepFailed)


@pytest.mark.parametrize(
    ("outcome", "failure", "seen"),
    [
        ("failed", Failure("ValueError", "no"), "ValueError:no"),
        ("failed", Failure("some.Error", "no"), "ChildFailed:some.Error: no"),
        ("cancelled", Failure("CancelledError", "asked"), "ChildCancelled:asked"),
        ("terminated", Failure("Terminated", "by hand"), "ChildCancelled:by hand"),
        ("rejected", Failure("already_running", "taken"), "ChildFailed:already_running: taken"),
    ],
)
def test_a_childs_end(outcome: str, failure: Failure, seen: str) -> None:
    @app.workflow(name=f"parent-{outcome}-{failure.type}")
    async def parent() -> str:
        try:
            await sub.options(id="c-1")(3)
        except Exception as error:
            return f"{type(error).__name__}:{error}"
        return "fine"

    driver = Driver(parent)
    (scheduled,) = driver.recorded(e.ChildScheduled)
    assert scheduled.child_workflow_id == "c-1"
    driver.deliver(e.ChildFailed("0:1", outcome, failure))
    assert driver.result == seen
    assert issubclass(ChildCancelled, ChildFailed)
    at_every_prefix(driver)


def test_a_childs_result() -> None:
    @app.workflow(name="parent")
    async def parent() -> int:
        return await sub(3) + 1

    driver = Driver(parent)
    driver.complete(next(iter(driver.pending.values())), 3)
    assert driver.result == 4


@pytest.mark.parametrize("error", [WorkflowFailed("enough"), CardDeclined("no", code=3)])
def test_errors_that_fail_the_run(error: Exception) -> None:
    @app.workflow(name=f"raises-{type(error).__name__}")
    async def raises() -> None:
        raise error

    assert Driver(raises).failure.type == type(error).__name__


# -- continue-as-new -----------------------------------------------------------------------------------------------


@app.workflow
async def counts(n: int, *, step: int = 1) -> int:
    await work(n)
    if n < 3:
        continue_as_new(n + step, step=2)
    return n


@app.workflow
async def counts_wrongly(n: int) -> int:
    continue_as_new(n, m=1)


def test_continue_as_new() -> None:
    driver = Driver(counts, 1).go()
    assert isinstance(driver.end, c.ContinueAsNew)
    assert driver.end.arguments.data == b'{"n":2,"step":2}'
    assert driver.live.closed
    at_every_prefix(driver)


def test_continue_as_new_with_other_parameters_is_a_bug() -> None:
    verdict = Driver(counts_wrongly, 1).verdict
    assert verdict is not None
    assert verdict.kind == "bug"
    assert "'m'" in verdict.message


def test_keyword_only_parameters_are_not_taken_by_position() -> None:
    wrong: Any = counts
    with pytest.raises(TypeError):
        wrong.code.signature.bind((1, 2), {})
