"""Entities without an engine: definitions, plain calls, state in and out, and what is refused with a word."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import ConfigurationError, Orchestrator, continue_as_new, query
from orchestrator.client.code import start_of
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import NOTHING, Payload
from orchestrator.errors import DoesNotRoundTrip, MissingHint
from tests.sdk.driver import Driver, replay, verdict_of

app = Orchestrator("entities")


@app.step
async def add(a: int, b: int) -> int:
    return a + b


@app.entity
class Counter:
    value: int = 0
    names: dict[str, int] | None = None

    @app.handler
    async def grow(self, by: int) -> int:
        self.value = await add(self.value, by)
        return self.value

    @app.handler
    async def look(self) -> int:
        return self.value

    @app.handler
    async def again(self) -> int:
        return continue_as_new()

    @app.handler
    async def breaks(self) -> int:
        self.value = object()  # type: ignore[assignment]
        return 1

    @query
    def doubled(self, plus: int = 0) -> int:
        return 2 * self.value + plus


def waiting(handler: Any, *args: Any) -> Driver:
    """A call that lined up."""
    return Driver(handler, *args, started={"queued": True})


def called(handler: Any, *args: Any, state: Payload = NOTHING) -> Driver:
    """A call whose turn has come."""
    driver = waiting(handler, *args)
    driver.deliver(e.EntityAdmitted(state))
    return driver.go()


def states(driver: Driver) -> list[bytes]:
    """What a call left."""
    return [one.state.data for one in driver.recorded(e.EntityChanged)]


def test_a_call_waits_for_its_turn_and_leaves_its_state_with_its_result() -> None:
    waits = waiting(Counter.grow, 2)
    assert (waits.verdict, waits.end, waits.steps()) == (None, None, [])
    driver = called(Counter.grow, 2, state=Payload(data=b'{"value":40}'))
    assert driver.result == 42
    assert states(driver) == [b'{"value":42,"names":null}']
    kinds = [type(one.body) for one in driver.history]
    assert kinds[-2:] == [e.EntityChanged, e.RunCompleted]
    replay(driver.history, driver.code)


def test_a_call_that_changes_nothing_records_nothing() -> None:
    assert states(called(Counter.look)) == []
    assert states(called(Counter.look, state=Payload(data=b'{ "value": 3 }'))) == []


def test_one_that_is_cancelled_while_it_waits_never_begins() -> None:
    driver = waiting(Counter.grow, 2)
    driver.cancel()
    driver.deliver(e.EntityAdmitted(NOTHING))
    assert isinstance(driver.end, c.CancelRun)
    assert driver.steps() == []
    replay(driver.history, driver.code)


def test_other_code_that_leaves_another_state_has_diverged() -> None:
    driver = called(Counter.grow, 2)
    changed = [
        one._replace(body=one.body._replace(state=Payload(data=b'{"value":7}')))
        if isinstance(one.body, e.EntityChanged)
        else one
        for one in driver.history
    ]
    driver.history = changed
    assert "the entity's state" in verdict_of(driver, driver.code).message


def test_a_field_that_came_later_is_no_divergence() -> None:
    driver = called(Counter.grow, 2)
    driver.history = [
        one._replace(body=one.body._replace(state=Payload(data=b'{"value":2,"gone":1}')))
        if isinstance(one.body, e.EntityChanged)
        else one
        for one in driver.history
    ]
    replay(driver.history, driver.code)


def test_a_state_that_does_not_fit_parks() -> None:
    wrong = called(Counter.look, state=Payload(data=b'{"value":"x"}'))
    assert wrong.verdict is not None
    assert wrong.verdict.kind == "bug"
    left = called(Counter.breaks)
    assert left.verdict is not None
    assert "the state of entity Counter" in left.verdict.message


def test_continue_as_new_is_refused() -> None:
    verdict = called(Counter.again).verdict
    assert verdict is not None
    assert "does not continue as new" in verdict.message


def test_reads() -> None:
    code = app.registry.entities["Counter"]
    state = Payload(data=b'{"value":4}')
    assert code.read(state, "doubled", NOTHING).data == b"8"
    assert code.read(NOTHING, "doubled", Payload(data=b'{"plus":1}')).data == b"1"
    with pytest.raises(LookupError, match="it answers doubled"):
        code.read(state, "halved", NOTHING)
    with pytest.raises(DoesNotRoundTrip):
        code.read(Payload(data=b"[]"), "doubled", NOTHING)


def test_an_object_is_plain_python() -> None:
    async def plain() -> int:
        counter = Counter(value=1)
        return await counter.grow(2) + counter.doubled()

    assert asyncio.run(plain()) == 9


def test_a_call_without_key_or_run_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"await Counter.grow.on\(key\)"):
        Counter.grow(1)
    with pytest.raises(ConfigurationError, match="in workflow code or by a client"):
        Counter.grow.on("a")(1)
    with pytest.raises(ConfigurationError, match="non-empty"):
        Counter.grow.on("")


def test_a_handler_that_is_started_like_a_workflow_parks_and_says_how() -> None:
    verdict = Driver(Counter.grow, 2).verdict
    assert verdict is not None
    assert "orchestrator entity call" in verdict.message
    with pytest.raises(ConfigurationError, match=r"start Counter.grow.on\(key\)"):
        start_of(Counter.grow, (1,), {})
    with pytest.raises(ConfigurationError, match="no option conflict, id"):
        Counter.grow.on("a").options(id="b", conflict="fail")
    body = start_of(Counter.grow.on("a").options(run_timeout=timedelta(seconds=5)), (1,), {})
    assert (body.conflict, body.run_timeout_ms) == ("queue", 5_000)


def test_definitions_that_cannot_work_are_refused() -> None:
    other = Orchestrator("entities")
    with pytest.raises(ConfigurationError, match="name, size needs a default"):

        @other.entity
        @dataclass
        class Wanting:
            name: str
            size: int

    class Plain:
        @other.handler
        async def lonely(self) -> int:
            return 1

    with pytest.raises(ConfigurationError, match=r"lonely is a handler of a class without @app.entity"):
        other.registry.check()
    with pytest.raises(ConfigurationError, match="a method of a class"):
        other.handler(globals()["_function"])
    late = Orchestrator("entities")

    @late.entity
    class Unwritable:
        value: asyncio.Lock | None = None

    with pytest.raises(MissingHint):
        late.registry.check()


async def _function(self: Any) -> int:
    return 1


def test_another_modules_entity_of_the_same_name_is_refused() -> None:
    class Counter:
        value: int = 0

    Counter.__qualname__, Counter.__module__ = "Counter", "json"
    with pytest.raises(ConfigurationError, match="give one of them another name"):
        app.entity(Counter)
