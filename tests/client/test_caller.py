"""One call: ids that survive retries, lost replies, refusals, time-outs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from orchestrator.client.caller import Caller
from orchestrator.client.calls import Calls
from orchestrator.client.requests import ClientOptions, Request, new_command_id
from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from orchestrator.errors import (
    CommandRejected,
    KafkaUnavailable,
    LimitExceeded,
    ReplyTimeout,
    RunClosed,
    RunParked,
    WorkflowAlreadyRunning,
    WorkflowNotFound,
)
from orchestrator.log.partitioner import partition_of
from tests.client.fake_engine import PARTITIONS, FakeEngine, FakeRun, FakeTransport, payload

T = TypeVar("T")

QUICK = ClientOptions(timeout_s=5.0, resend_s=0.05, poll_s=0.05)
PATIENT = ClientOptions(timeout_s=60.0, resend_s=60.0, poll_s=0.05)
SHORT = ClientOptions(timeout_s=0.2, resend_s=0.05, poll_s=0.05)
ORDER = c.StartWorkflow("order", payload({"order_id": "7"}))


def with_calls(engine: FakeEngine, work: Callable[[Calls], Awaitable[T]], options: ClientOptions = QUICK) -> T:
    """Do `work` with calls over the fake."""

    async def inside() -> T:
        caller = Caller("shop", FakeTransport(engine), options)
        await caller.open()
        try:
            return await work(Calls(caller))
        finally:
            await caller.close()

    return asyncio.run(inside())


def test_command_ids_are_uuid7_and_ordered_by_time() -> None:
    made = [uuid.UUID(new_command_id()) for _ in range(50)]
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}
    assert len(set(made)) == 50
    stamps = [one.int >> 80 for one in made]
    assert stamps == sorted(stamps)


def test_a_command_goes_to_its_workflows_partition_with_its_envelope() -> None:
    engine = FakeEngine()
    reply = with_calls(engine, lambda calls: calls.start("order-7", ORDER, Request(reason="Monday")), PATIENT)
    ((partition, key, command),) = engine.received
    assert (partition, key) == (partition_of(b"order-7", PARTITIONS), b"order-7")
    assert command.reply_to == ("shop.replies", 2)
    assert (command.reason, command.actor.via, command.body) == ("Monday", "client", ORDER)
    assert (reply.run_id, reply.command_id) == ("run-order-7-0", command.id)


def test_a_lost_reply_is_asked_for_again_with_the_same_id() -> None:
    engine = FakeEngine()
    engine.lose_replies = 2
    reply = with_calls(engine, lambda calls: calls.start("order-7", ORDER))
    ids = [command.id for _, _, command in engine.received]
    assert len(ids) >= 3
    assert set(ids) == {reply.command_id}
    assert len(engine.handled) == 1


def test_the_users_own_id_makes_two_calls_one() -> None:
    engine = FakeEngine()

    async def work(calls: Calls) -> list[str]:
        request = Request(command_id="invoice-12")
        both = await asyncio.gather(calls.start("order-7", ORDER, request), calls.start("order-7", ORDER, request))
        return [reply.run_id for reply in both]

    assert with_calls(engine, work) == ["run-order-7-0", "run-order-7-0"]
    assert [command.id for command in engine.handled] == ["invoice-12"]


def test_nobody_answers() -> None:
    engine = FakeEngine()
    engine.deaf = True
    with pytest.raises(ReplyTimeout, match=r"StartWorkflow of order-7 .* same id is safe.*doctor"):
        with_calls(engine, lambda calls: calls.start("order-7", ORDER), SHORT)


@pytest.mark.parametrize(
    ("first", "then", "error", "code"),
    [
        (True, lambda calls: calls.start("order-7", ORDER), WorkflowAlreadyRunning, "already_running"),
        (False, lambda calls: calls.signal("order-7", "go", payload(1)), WorkflowNotFound, "not_found"),
        (False, lambda calls: calls.describe("order-7"), WorkflowNotFound, "not_found"),
        (True, lambda calls: calls.code_query("order-7", "bad", payload(None)), CommandRejected, "query_failed"),
    ],
)
def test_refusals_are_typed(
    first: bool, then: Callable[[Calls], Awaitable[object]], error: type[CommandRejected], code: str
) -> None:
    engine = FakeEngine()

    async def work(calls: Calls) -> None:
        if first:
            await calls.start("order-7", ORDER)
        await then(calls)

    with pytest.raises(error) as caught:
        with_calls(engine, work)
    assert caught.value.code == code
    assert caught.value.workflow_id == "order-7"


def test_a_closed_run_refuses_signals() -> None:
    engine = FakeEngine()

    async def work(calls: Calls) -> None:
        await calls.start("order-7", ORDER)
        await calls.terminate("order-7", request=Request(reason="enough"))
        await calls.signal("order-7", "go", payload(1))

    with pytest.raises(RunClosed, match="terminated"):
        with_calls(engine, work)


def test_a_refused_record_is_told_with_the_reason() -> None:
    async def work() -> None:
        transport = FakeTransport(FakeEngine())
        transport.refuse = "unknown topic"
        caller = Caller("shop", transport, QUICK)
        await caller.open()
        try:
            await Calls(caller).start("order-7", ORDER)
        finally:
            await caller.close()

    with pytest.raises(KafkaUnavailable, match=r"shop\.commands partition \d: unknown topic"):
        asyncio.run(work())


def test_closing_ends_calls_under_way() -> None:
    async def work() -> None:
        engine = FakeEngine()
        engine.deaf = True
        caller = Caller("shop", FakeTransport(engine), QUICK)
        await caller.open()
        call = asyncio.create_task(Calls(caller).start("order-7", ORDER))
        while not engine.received:
            await asyncio.sleep(0)
        await caller.close()
        await call

    with pytest.raises(KafkaUnavailable, match="closed before the reply"):
        asyncio.run(work())


def test_a_command_that_is_too_large_is_not_sent() -> None:
    engine = FakeEngine()
    big = Payload(data=b'"' + b"x" * 1_100_000 + b'"')
    with pytest.raises(LimitExceeded, match=r"SignalWorkflow of order-7 is 1,100,\d+ bytes"):
        with_calls(engine, lambda calls: calls.signal("order-7", "go", big))
    assert engine.received == []


def test_a_command_id_that_is_too_long_is_not_sent() -> None:
    engine = FakeEngine()
    with pytest.raises(LimitExceeded, match=r"StartWorkflow of order-7: .* at most 1,024 characters, this one 1,025"):
        with_calls(engine, lambda calls: calls.start("order-7", ORDER, Request("c" * 1_025)))
    assert engine.received == []
    with_calls(engine, lambda calls: calls.start("order-7", ORDER, Request("c" * 1_024)), PATIENT)
    assert len(engine.received) == 1


def after_polls(polls: int, change: Callable[[FakeRun], None]) -> Callable[[FakeEngine, c.Command], None]:
    """A script that changes the newest run of order-7 after so many questions for its result."""
    seen = []

    def script(engine: FakeEngine, command: c.Command) -> None:
        if isinstance(command.body, c.QueryWorkflow) and command.body.kind == "result":
            seen.append(command)
            run = engine.current("order-7")
            if len(seen) == polls and run is not None:
                change(run)

    return script


def complete(run: FakeRun) -> None:
    """End a run with a result."""
    run.status, run.result = "completed", payload("paid")


def test_a_result_is_polled_for() -> None:
    engine = FakeEngine()
    engine.script = after_polls(2, complete)

    async def work(calls: Calls) -> tuple[str, bytes]:
        await calls.start("order-7", ORDER)
        outcome = await calls.outcome("order-7")
        return outcome.status, outcome.reply.result.data

    assert with_calls(engine, work) == ("completed", b'"paid"')


def test_a_result_follows_continue_as_new() -> None:
    engine = FakeEngine()

    async def work(calls: Calls) -> str:
        started = await calls.start("order-7", ORDER)
        first = engine.runs["order-7"][0]
        first.status, first.message = "continued_as_new", "run-2"
        engine.runs["order-7"].append(FakeRun("run-2", ORDER, "completed", payload(1)))
        return (await calls.outcome("order-7", started.run_id)).reply.run_id

    assert with_calls(engine, work) == "run-2"


def test_a_run_that_has_not_ended_in_time() -> None:
    async def work(calls: Calls) -> None:
        await calls.start("order-7", ORDER)
        await calls.outcome("order-7", timeout_s=0.2)

    with pytest.raises(ReplyTimeout, match=r"has not ended within 0\.2 s \(it is running\)"):
        with_calls(FakeEngine(), work)


def park(run: FakeRun) -> None:
    """Park a run."""
    run.status, run.message = "parked", "diverged: expected step pack, came step charge (shop.py:12)"


async def _outcome_of_parked(calls: Calls, engine: FakeEngine, timeout_s: float | None) -> str:
    await calls.start("order-7", ORDER)
    park(engine.runs["order-7"][0])
    return (await calls.outcome("order-7", timeout_s=timeout_s)).status


def test_a_parked_run_is_raised_at_once_where_asked() -> None:
    engine = FakeEngine()
    options = ClientOptions(resend_s=0.05, poll_s=0.05, parked="raise")
    with pytest.raises(RunParked, match=r"^parked: diverged: expected step pack"):
        with_calls(engine, lambda calls: _outcome_of_parked(calls, engine, None), options)


def test_a_run_still_parked_when_the_time_is_over_is_raised_as_parked(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    with pytest.raises(RunParked, match="parked: diverged"):
        with_calls(engine, lambda calls: _outcome_of_parked(calls, engine, 0.3))
    assert [record.message for record in caplog.records if "parked: diverged" in record.message] == [
        "waiting for order-7, which is parked: diverged: expected step pack, came step charge (shop.py:12)"
    ]


def test_a_parked_run_is_waited_for() -> None:
    engine = FakeEngine()
    engine.script = after_polls(2, complete)
    assert with_calls(engine, lambda calls: _outcome_of_parked(calls, engine, None)) == "completed"


def test_history_comes_in_pages_of_one_run() -> None:
    engine = FakeEngine()

    async def work(calls: Calls) -> list[int]:
        await calls.start("order-7", ORDER)
        engine.runs["order-7"][0].events = [
            {"seq": seq, "type": "StepCompleted", "at_ms": 5, "body": {}} for seq in range(1, 6)
        ]
        return [event.seq async for event in calls.history("order-7")]

    assert with_calls(engine, work, PATIENT) == [1, 2, 3, 4, 5]
    pages = [command.body for _, _, command in engine.received[1:] if isinstance(command.body, c.QueryWorkflow)]
    assert [page.run_id for page in pages] == ["", "run-order-7-0", "run-order-7-0"]


def test_list_asks_every_partition_page_by_page() -> None:
    engine = FakeEngine()
    names = [f"order-{number}" for number in range(12)]

    async def work(calls: Calls) -> tuple[list[str], int]:
        for name in names:
            await calls.start(name, ORDER)
        found = [run.workflow_id async for run in calls.runs()]
        return found, len([run async for run in calls.runs(limit=5)])

    found, limited = with_calls(engine, work)
    assert sorted(found) == sorted(names)
    assert limited == 5
    asked = {number for number, key, _ in engine.received if key == b""}
    assert asked == set(range(PARTITIONS))
