"""The blocking facade: the same calls, and none on a thread with a running loop."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from typing import Any, get_overloads

import pytest

from orchestrator.client.approvals import Approvals
from orchestrator.client.blocking import (
    BlockingClient,
    BlockingEntity,
    BlockingHandle,
    BlockingStep,
    BlockingUpdate,
    BlockingUpdates,
)
from orchestrator.client.blocking_parts import BlockingApprovals, BlockingLimits, BlockingSchedule, BlockingSchedules
from orchestrator.client.client import Client, WithStart
from orchestrator.client.entity import EntityHandle
from orchestrator.client.handle import Handle
from orchestrator.client.limits import Limits
from orchestrator.client.requests import ClientOptions
from orchestrator.client.schedules import ScheduleHandle, Schedules
from orchestrator.client.steps import StepHandle
from orchestrator.client.updates import UpdateHandle, Updates
from orchestrator.core import commands as c
from orchestrator.core.values import Failure
from orchestrator.errors import BlockingInLoop, ConfigurationError, WorkflowNotFound
from tests.client.fake_engine import FakeEngine, FakeTransport, payload
from tests.client.shop import Approval, app, approved, greet, order

QUICK = ClientOptions(timeout_s=5.0, resend_s=0.05, poll_s=0.05)


def complete_at_once(engine: FakeEngine, command: c.Command) -> None:
    """Runs of `hello` end as soon as they are started."""
    if isinstance(command.body, c.StartWorkflow) and command.body.workflow_type == "hello":
        run = engine.runs[command.workflow_id][-1]
        run.status, run.result = "completed", payload("hello eva")


def test_the_same_calls() -> None:
    engine = FakeEngine()
    engine.script = complete_at_once
    before = threading.active_count()
    with BlockingClient.connect(app, transport=FakeTransport(engine), options=QUICK) as client:
        assert client.execute(greet, "eva") == "hello eva"
        handle = client.start(order.options(id="order-7"), "7", ["pen"])
        assert (handle.workflow_id, handle.run_id) == ("order-7", "run-order-7-0")
        handle.using(reason="desk").signal(approved, True)
        assert handle.describe().status == "running"
        assert handle.history() == []
        assert handle.query(Approval.asked, "all") == {"asked": "asked", "with": {"of": "all"}}
        assert len(client.runs()) == 2
        step = client.step("order-7/run-order-7-0/0%3A1")
        step.complete({"paid": 9})
        step.fail("no", "CardDeclined")
        step.heartbeat("half way")
        client.using(reason="because").step("order-7/run-order-7-0/0%3A1").complete()
        handle.retry()
        handle.terminate()
        assert client.handle(greet, "order-7").describe().status == "terminated"
        client.using(command_id="k").start(greet, "eva")
        with pytest.raises(WorkflowNotFound):
            client.handle(greet, "nobody").cancel()
        with pytest.raises(ConfigurationError, match="no idempotency key"):
            client.step("0:1")
    assert [command.reason for command in engine.handled if isinstance(command.body, c.SignalWorkflow)] == ["desk"]
    said = [command for command in engine.handled if isinstance(command.body, c.ResolveStep)]
    assert [command.body for command in said] == [
        c.ResolveStep("run-order-7-0", "0:1", "complete", payload({"paid": 9})),
        c.ResolveStep("run-order-7-0", "0:1", "fail", failure=Failure("CardDeclined", "no", retryable=False)),
        c.ResolveStep("run-order-7-0", "0:1", "heartbeat", payload("half way")),
        c.ResolveStep("run-order-7-0", "0:1", "complete"),
    ]
    assert [command.reason for command in said] == ["", "", "", "because"]
    assert "k" in [command.id for command in engine.handled]
    assert threading.active_count() == before


def test_it_refuses_on_a_thread_with_a_running_loop() -> None:
    engine = FakeEngine()

    async def work(client: BlockingClient) -> None:
        client.start(greet, "eva")

    with (
        BlockingClient.connect(app, transport=FakeTransport(engine), options=QUICK) as client,
        pytest.raises(BlockingInLoop, match="use the async client"),
    ):
        asyncio.run(work(client))
    assert engine.received == []


def test_it_does_not_even_connect_there() -> None:
    async def work() -> None:
        with BlockingClient.connect(app, transport=FakeTransport(FakeEngine()), options=QUICK):
            raise AssertionError("not reached")

    with pytest.raises(BlockingInLoop):
        asyncio.run(work())


TWINS: list[tuple[type[Any], type[Any]]] = [
    (Client, BlockingClient),
    (Handle, BlockingHandle),
    (Updates, BlockingUpdates),
    (WithStart, BlockingUpdates),
    (UpdateHandle, BlockingUpdate),
    (StepHandle, BlockingStep),
    (EntityHandle, BlockingEntity),
    (Schedules, BlockingSchedules),
    (ScheduleHandle, BlockingSchedule),
    (Approvals, BlockingApprovals),
    (Limits, BlockingLimits),
]

ATTRIBUTE = ["attribute"]
INNER = {"calls"}
"""What is no part of the API: the layer below, in plain records."""


def told(cls: type[Any]) -> dict[str, list[Any]]:
    """The public members of a class, each with the parameters of every way to call it, as they are written."""
    made = "" if cls.__init__ is object.__init__ else inspect.getsource(cls.__init__)
    of_itself = re.findall(r"self\.([a-z]\w*)", made)
    found: dict[str, list[Any]] = {name: ATTRIBUTE for name in of_itself if name not in INNER}
    for name in dir(cls):
        member = getattr(cls, name)
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            found[name] = ATTRIBUTE
            continue
        # Under a context manager's decorator lies the function that it decorates.
        plain = inspect.unwrap(getattr(member, "__func__", member))
        ways = get_overloads(plain) or [plain]
        found[name] = [
            [one.replace(annotation=str(one.annotation)) for one in inspect.signature(way).parameters.values()]
            for way in ways
        ]
    return found


@pytest.mark.parametrize(("awaited", "blocking"), TWINS, ids=lambda cls: cls.__name__)
def test_it_has_all_that_the_async_client_has(awaited: type[Any], blocking: type[Any]) -> None:
    wanted, there = told(awaited), told(blocking)
    assert len(wanted) > 0
    assert there == wanted


def test_what_is_compared_is_all_there_is() -> None:
    """A blocking class that a twin hands out is a twin itself."""
    known = {cls.__name__ for pair in TWINS for cls in pair}
    for _, blocking in TWINS:
        for name in told(blocking):
            member = inspect.getattr_static(blocking, name, None)
            if member is None:
                continue
            function = inspect.unwrap(getattr(member, "fget", None) or getattr(member, "__func__", member))
            returned = str(inspect.signature(function).return_annotation).partition("[")[0]
            assert not returned.startswith("Blocking") or returned in known, f"{blocking.__name__}.{name}"
