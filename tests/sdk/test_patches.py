"""`patched` and `deprecate_patch`: every history meets every release of the code that a rolling deploy can show it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator import ConfigurationError, Orchestrator, deprecate_patch, patched
from orchestrator.core import events as e
from orchestrator.core.values import Payload
from orchestrator.sdk.compare import LACKS_CODE
from orchestrator.sdk.turn import LiveRun
from tests.sdk.driver import Driver, at_every_prefix, replay, verdict_of


def release(how: str) -> Any:
    """The workflow `flow` before the change, with it, after it was deprecated, and after it was removed."""
    app = Orchestrator("patches")

    @app.step
    async def begin() -> str:
        return "begun"

    @app.step
    async def old() -> str:
        return "old"

    @app.step
    async def new() -> str:
        return "new"

    side = app.query("side", bool)

    @app.workflow(name="flow")
    async def flow() -> str:
        side.answer(lambda: patched("better"))
        await begin()
        if how == "deprecated":
            deprecate_patch("better")
        take_new = patched("better") if how == "patched" else how in ("deprecated", "removed")
        first = await (new() if take_new else old())
        await asyncio.sleep(1)
        if how == "patched" and patched("better") != take_new:
            return "changed sides"
        return first

    return flow


def recorded(how: str) -> Driver:
    """A run from start to end under one release."""
    return Driver(release(how)).go()


def markers(driver: Driver) -> list[tuple[str, bool]]:
    """What was recorded of the patch."""
    return [(one.patch, one.deprecated) for one in driver.recorded(e.RunPatched)]


def test_a_new_run_takes_the_new_side_and_says_so_once() -> None:
    driver = recorded("patched")
    assert driver.result == "new"
    assert markers(driver) == [("better", False)]
    at_every_prefix(driver)


def test_a_run_that_is_past_the_line_takes_the_old_side_for_ever() -> None:
    before = recorded("before")
    replay(before.history, release("patched").code)
    assert before.result == "old"


def test_a_run_that_had_not_come_to_the_line_takes_the_new_side() -> None:
    driver = Driver(release("before"))
    driver.live.evict()
    driver.live, driver.code = replay(driver.history, release("patched").code), release("patched").code
    driver.go()
    assert driver.result == "new"
    assert markers(driver) == [("better", False)]
    at_every_prefix(driver)


@pytest.mark.parametrize(
    ("history", "code", "verdict"),
    [
        ("before", "patched", ""),
        ("before", "deprecated", "diverged"),
        ("patched", "before", LACKS_CODE),
        ("patched", "patched", ""),
        ("patched", "deprecated", ""),
        ("patched", "removed", LACKS_CODE),
        ("deprecated", "before", "diverged"),
        ("deprecated", "patched", ""),
        ("deprecated", "deprecated", ""),
        ("deprecated", "removed", ""),
        ("removed", "deprecated", ""),
    ],
)
def test_every_history_under_every_release(history: str, code: str, verdict: str) -> None:
    driver = recorded(history)
    if not verdict:
        replay(driver.history, release(code).code)
        return
    found = verdict_of(driver, release(code).code)
    assert found.kind == verdict
    if verdict == LACKS_CODE:
        assert "patched('better') or deprecate_patch('better')" in found.message


def ask(live: LiveRun) -> bytes:
    """The query of the flow."""
    return live.talk.query("side", Payload(data=b"{}")).data


def test_a_query_sees_the_side_and_records_nothing() -> None:
    driver = Driver(release("patched"))
    assert ask(driver.live) == b"false"
    driver.work(driver.steps()[0])
    assert ask(driver.live) == b"true"
    assert len(markers(driver)) == 1


def test_outside_of_a_run() -> None:
    with pytest.raises(ConfigurationError, match="workflow code"):
        patched("better")


def test_a_patch_without_a_name_parks() -> None:
    app = Orchestrator("nameless")

    @app.workflow
    async def flow() -> bool:
        return patched("")

    verdict = Driver(flow).verdict
    assert verdict is not None
    assert "needs a name" in verdict.message
