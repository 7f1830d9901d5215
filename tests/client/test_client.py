"""The typed client and its handles: what is sent for a call, and what a run's end becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from orchestrator.client.client import Client
from orchestrator.client.requests import ClientOptions
from orchestrator.core import commands as c
from orchestrator.core.values import Failure
from orchestrator.errors import (
    DoesNotRoundTrip,
    OrchestratorError,
    ReplyTimeout,
    RunCancelled,
    RunFailed,
    RunTerminated,
    WorkflowFailed,
    WorkflowNotFound,
)
from tests.client.fake_engine import FakeEngine, FakeTransport, payload
from tests.client.shop import Approval, CardDeclined, Receipt, app, approved, greet, order, progress

T = TypeVar("T")
QUICK = ClientOptions(timeout_s=5.0, resend_s=0.05, poll_s=0.05)


def with_client(engine: FakeEngine, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do `work` with a client over the fake."""

    async def inside() -> T:
        async with Client.connect(app, transport=FakeTransport(engine), options=QUICK) as client:
            return await work(client)

    return asyncio.run(inside())


def ends(engine: FakeEngine, status: str, **how: object) -> None:
    """Runs end as soon as they are started."""

    def script(fake: FakeEngine, command: c.Command) -> None:
        if isinstance(command.body, c.StartWorkflow):
            run = fake.runs[command.workflow_id][-1]
            run.status = status
            for name, value in how.items():
                setattr(run, name, value)

    engine.script = script


def test_start_stores_arguments_by_name_without_defaults() -> None:
    engine = FakeEngine()
    handle = with_client(engine, lambda client: client.start(order.options(id="order-7"), "7", ["pen"]))
    assert (handle.workflow_id, handle.run_id) == ("order-7", "run-order-7-0")
    body = engine.handled[0].body
    assert isinstance(body, c.StartWorkflow)
    assert (body.workflow_type, body.conflict, body.reuse) == ("order", "fail", "allow")
    assert json.loads(body.arguments.data) == {"order_id": "7", "items": ["pen"]}


def test_an_id_is_made_up_and_another_each_time() -> None:
    engine = FakeEngine()

    async def work(client: Client) -> list[str]:
        return [(await client.start(greet, "eva")).workflow_id for _ in range(2)]

    first, second = with_client(engine, work)
    assert first != second
    body = engine.handled[0].body
    assert isinstance(body, c.StartWorkflow)
    assert body.workflow_type == "hello"


def test_a_result_has_its_type() -> None:
    engine = FakeEngine()
    ends(engine, "completed", result=payload({"number": 3, "note": "thanks"}))
    result = with_client(engine, lambda client: client.execute(order.options(id="order-7"), "7", ["pen"], cents=9))
    assert result == Receipt(3, "thanks")


def test_a_handle_is_attached_again_later() -> None:
    engine = FakeEngine()
    ends(engine, "completed", result=payload("hello eva"))

    async def work(client: Client) -> str:
        await client.start(greet.options(id="g"), "eva")
        return await client.handle(greet, "g").result()

    assert with_client(engine, work) == "hello eva"


@pytest.mark.parametrize(
    ("status", "how", "error", "sentence"),
    [
        ("failed", {"failure": Failure("CardDeclined", "no money")}, CardDeclined, "no money"),
        (
            "failed",
            {"failure": Failure("KeyError", "'x'")},
            RunFailed,
            "order-7/run-order-7-0 failed with KeyError: 'x'",
        ),
        ("failed", {"failure": Failure("WorkflowFailed", "sold out")}, WorkflowFailed, "sold out"),
        ("cancelled", {}, RunCancelled, "order-7/run-order-7-0 was cancelled"),
        ("terminated", {"message": "by eva"}, RunTerminated, "was terminated: by eva"),
    ],
)
def test_a_run_that_ended_otherwise_raises(
    status: str, how: dict[str, object], error: type[Exception], sentence: str
) -> None:
    engine = FakeEngine()
    ends(engine, status, **how)
    with pytest.raises(error) as caught:
        with_client(engine, lambda client: client.execute(order.options(id="order-7"), "7", []))
    assert sentence in str(caught.value)
    if error is CardDeclined:
        assert isinstance(caught.value.__cause__, RunFailed)


def test_a_signal_is_encoded_by_its_type() -> None:
    engine = FakeEngine()

    async def work(client: Client) -> None:
        handle = await client.start(order.options(id="order-7"), "7", [])
        await handle.using(command_id="click-1", reason="desk").signal(approved, True)

    with_client(engine, work)
    command = engine.handled[-1]
    assert (command.id, command.reason) == ("click-1", "desk")
    assert command.body == c.SignalWorkflow("approved", payload(True), "run-order-7-0")


def test_a_signal_of_another_type_is_refused_before_it_is_sent() -> None:
    engine = FakeEngine()

    async def work(client: Client) -> None:
        handle = await client.start(order.options(id="order-7"), "7", [])
        await handle.signal(approved, "certainly")  # type: ignore[arg-type]

    with pytest.raises(OrchestratorError, match="approved"):
        with_client(engine, work)
    assert [type(command.body) for command in engine.handled] == [c.StartWorkflow]


def test_the_users_own_command_id_starts_once() -> None:
    engine = FakeEngine()

    async def work(client: Client) -> list[str]:
        starts = [client.using(command_id="k").start(greet.options(id="g"), "eva") for _ in range(2)]
        return [handle.run_id for handle in await asyncio.gather(*starts)]

    assert with_client(engine, work) == ["run-g-0", "run-g-0"]
    assert len(engine.handled) == 1


def test_steering_by_handle() -> None:
    engine = FakeEngine()

    async def work(client: Client) -> None:
        handle = await client.start(order.options(id="order-7"), "7", [])
        assert (await handle.describe()).why.startswith("waits for step charge")
        engine.runs["order-7"][0].events = [{"seq": 1, "type": "RunStarted", "at_ms": 1, "body": {}}]
        assert [event.type async for event in handle.history()] == ["RunStarted"]
        assert [run.workflow_id async for run in client.runs()] == ["order-7"]
        await handle.retry()
        with pytest.raises(ReplyTimeout, match="has not ended"):
            await handle.result(timeout=timedelta(seconds=0.2))
        await handle.terminate()
        with pytest.raises(RunTerminated):
            await handle.result()

    with_client(engine, work)


def test_the_class_form_has_typed_handlers() -> None:
    engine = FakeEngine()

    async def work(client: Client) -> None:
        handle = await client.start(Approval.run, "deploy")
        await handle.signal(Approval.approve, "eva", loudly=True)
        assert await handle.query(Approval.asked, "all") == {"asked": "asked", "with": {"of": "all"}}
        with pytest.raises(TypeError):
            await handle.signal(Approval.approve)  # type: ignore[call-arg]

    with_client(engine, work)
    assert [command.body for command in engine.handled[1:]] == [
        c.SignalWorkflow("approve", payload({"by": "eva", "loudly": True}), engine.runs_of_all()[0].run_id)
    ]


def test_a_typed_query() -> None:
    engine = FakeEngine()

    async def work(client: Client) -> dict[str, str]:
        handle = await client.start(order.options(id="order-7"), "7", [])
        return await handle.query(progress)

    with pytest.raises(DoesNotRoundTrip):  # the fake answers with more than texts
        with_client(engine, work)
    engine.answers["progress"] = {"done": "half"}
    assert with_client(engine, lambda client: client.handle(order, "order-7").query(progress)) == {"done": "half"}


def test_only_an_older_version_is_asked_for_by_number() -> None:
    @greet.older(version=1)
    async def greet_v1(who: str) -> str:
        return who

    engine = FakeEngine()

    async def work(client: Client) -> None:
        await client.start(greet, "eva")
        await client.start(greet_v1, "eva")

    with_client(engine, work)
    assert [command.body.version for command in engine.handled if isinstance(command.body, c.StartWorkflow)] == [0, 1]


def test_cancel_then_result() -> None:
    engine = FakeEngine()

    async def work(client: Client) -> None:
        handle = await client.start(order.options(id="order-7"), "7", [])
        await handle.cancel()
        await handle.result()

    with pytest.raises(RunCancelled):
        with_client(engine, work)


def test_a_handle_of_nothing() -> None:
    with pytest.raises(WorkflowNotFound):
        with_client(FakeEngine(), lambda client: client.handle(greet, "nobody").result())


def test_the_transport_is_closed_whatever_happens() -> None:
    transport = FakeTransport(FakeEngine())

    async def work() -> None:
        async with Client.connect(app, transport=transport, options=QUICK):
            assert transport.is_open
            raise ValueError("the caller's own")

    with pytest.raises(ValueError, match="own"):
        asyncio.run(work())
    assert not transport.is_open
