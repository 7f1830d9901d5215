"""Mutated records on every topic: each is accounted for, nobody exits, nobody stalls, good work goes on."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from orchestrator.client.caller import Caller
from orchestrator.client.requests import NO_REQUEST, ClientOptions, Request
from orchestrator.codec.records import CLAIM_KEY, FOOTER_KEY, Codec
from orchestrator.core import commands as c
from orchestrator.core.commands import ReportStep, StartStep, TopicCommand
from orchestrator.core.rows import META, POSITION_KEY
from orchestrator.core.tasks import Reply, TaskOffer
from orchestrator.core.values import Payload, ReplyTo
from orchestrator.engine import restored
from orchestrator.engine.batch import Batch
from orchestrator.engine.partition import State
from orchestrator.engine.timers import Timers
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Out
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.worker.options import WorkerOptions
from orchestrator.worker.remote import RemoteWorker
from orchestrator.worker.threads import ThreadExecutor
from tests.client.fake_engine import FakeEngine, FakeTransport
from tests.engine.rig import MemorySite, Rig, until
from tests.faults.mutations import Mutator
from tests.faults.poison import Campaign
from tests.faults.poison_app import app, doubles

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

pytestmark = pytest.mark.slow

NOBODY = ReplyTo("poison.replies", 0)
PATIENCE_S = 30.0


@pytest.mark.contract("bad-input")
def test_a_thousand_poisoned_commands_are_each_accounted_for(seed: int) -> None:
    report = Campaign(seed).run(1_000)
    assert report.sound, report
    assert report.records == 1_000
    assert report.claims == 2
    assert {"accepted", "rejected", "dead letter"} <= report.outcomes.keys()


@pytest.mark.broker
@pytest.mark.slow
def test_poisoned_commands_on_a_real_broker(kafka: DevKafka, seed: int) -> None:
    report = Campaign(seed, kafka.bootstrap).run(1_000)
    assert report.sound, report


def test_a_command_that_meets_a_defect_is_a_dead_letter_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever we did not think of: the claim ends, the next one sets the command aside."""
    from orchestrator.core import machine
    from orchestrator.core.events import DeadLettered

    decide = machine.decide

    def broken(view, command, context):  # type: ignore[no-untyped-def]
        if isinstance(command.body, c.PauseWorkflow):
            raise ZeroDivisionError("a defect")
        return decide(view, command, context)

    monkeypatch.setattr(machine, "decide", broken)
    one = Rig(app, MemorySite(app.name, 1))
    engine = one.engine()
    try:
        one.start("before", doubles, 1)
        value = one.codec.encode_command(c.Command("id", "before", c.PauseWorkflow()))
        one.send_raw(b"before", value)
        one.start("after", doubles, 2)
        assert (one.result("before"), one.result("after")) == (b"8", b"16")
        letters = one.bodies(DeadLettered)
        assert [letter.value.data for letter in letters] == [value]
        assert "ZeroDivisionError: a defect" in letters[0].reason
        assert engine.partitions[0].state is State.OWNED
    finally:
        one.close()


def test_an_answer_goes_to_the_topic_of_replies_alone() -> None:
    """One on the events topic would be a foreign record in the log, and park the partition."""
    one = Rig(app, MemorySite(app.name, 1))
    one.engine()
    try:
        for topic in ("poison.events", "poison.commands", "events", "other.replies"):
            for body in (c.CancelWorkflow(), c.QueryWorkflow("describe")):
                command = c.Command(f"{topic}/{type(body).__name__}", "w", body, reply_to=ReplyTo(topic, 0))
                one.send_raw(b"w", one.codec.encode_command(command))
        one.start("after", doubles, 2)
        assert one.result("after") == b"16"
        reasons = [one.codec.decode(raw.value).reason for raw in one.records("dead-letters")[0]]
        assert len(reasons) == 8
        assert all("answers go to a partition of poison.replies" in reason for reason in reasons)
    finally:
        one.close()


def test_a_partition_that_fell_by_a_defect_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is parked, it is not hung: the supervisor must not end the process for it."""
    fire = Timers.fire

    def broken(timers: Timers, batch: Batch) -> None:
        if timers._ground.number == 0:
            raise ZeroDivisionError("a defect")
        fire(timers, batch)

    names = [f"w{n}" for n in range(20)]
    fallen = next(name for name in names if partition_of(name.encode(), 2) == 0)
    whole = next(name for name in names if partition_of(name.encode(), 2) == 1)
    one = Rig(app, MemorySite(app.name, 2))
    try:
        engine = one.engine()
        one.start(fallen, doubles, 1)
        one.result(fallen)
        monkeypatch.setattr(Timers, "fire", broken)
        one.send(fallen, c.CancelWorkflow())
        until(lambda: engine.partitions[0].state is State.PARKED)
        assert engine.partitions[0].join(PATIENCE_S)
        assert engine.partitions[0].deadline == float("inf")
        assert "ZeroDivisionError: a defect" in engine.partitions[0].problem
        one.start(whole, doubles, 2)
        assert one.result(whole) == b"16"
        assert not engine._supervisor.hung()
    finally:
        one.close()


# -- other topics ------------------------------------------------------------------------------------------------------


def mutations(seed: int, kind: object, count: int) -> Iterator[bytes]:
    """Poisoned records of a kind, without null values."""
    mutator = Mutator(seed, NOBODY, kind)
    return (one.value or b"" for one in (mutator.next() for _ in range(count)))


@pytest.mark.parametrize("live", [False, True], ids=["found at the claim", "while it works"])
def test_poison_on_the_events_topic_parks_the_partition_and_names_its_offset(
    seed: int, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is the truth: what cannot be read of it is never skipped."""
    monkeypatch.setattr(restored, "NEAR_WAIT_S", 0.02)
    mutator = Mutator(seed, NOBODY)
    for number in range(12):
        one = Rig(app, MemorySite(app.name, 1))
        engine = one.engine()
        try:
            one.start("w", doubles, 1)
            one.result("w")
            if not live:
                engine.stop(5.0)
            with one.cluster.changed:
                offset = one.cluster.partition("poison.events", 0).end
                value = mutator.next().value or b""
                one.cluster.send(Out("poison.events", 0, (CLAIM_KEY, FOOTER_KEY, b"w", b"")[number % 4], value))
            parked = engine if live else one.engine(stores={})
            until(lambda engine=parked: 0 in engine.partitions and engine.partitions[0].state is State.PARKED)
            problem = parked.partitions[0].problem
            assert f"offset {offset}" in problem, problem
            position = one.stores[0].get(META, POSITION_KEY)
            assert position.next_offset <= offset
        finally:
            one.close()


def test_poison_on_a_reply_partition_reaches_no_caller(seed: int) -> None:
    engine = FakeEngine()
    transport = FakeTransport(engine)

    async def scenario() -> None:
        caller = Caller("shop", transport, ClientOptions(timeout_s=PATIENCE_S, resend_s=0.05))
        await caller.open()
        try:
            for value in mutations(seed, Reply, 1_000):
                caller._heard(value)
            reply = await caller.command("order-7", c.StartWorkflow("order", Payload(data=b'{"order_id":"7"}')))
            assert reply.outcome == "accepted"
        finally:
            await caller.close()

    asyncio.run(scenario())


class Offers:
    """A task topic full of poison."""

    def __init__(self, values: Iterator[bytes]) -> None:
        self.waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for value in values:
            self.waiting.put(value)

    def poll(self, timeout_s: float, take: bool) -> bytes | None:
        try:
            return self.waiting.get(timeout=timeout_s) if take else None
        except queue.Empty:
            return None

    def close(self) -> None:
        """Nothing is held."""


class Grants:
    """Grants everything, keeps reports."""

    def __init__(self) -> None:
        self.granted = 0
        self.reports: dict[str, ReportStep] = {}

    async def command(self, workflow_id: str, body: TopicCommand, request: Request = NO_REQUEST) -> Reply:
        self.granted += isinstance(body, StartStep)
        if isinstance(body, ReportStep):
            self.reports[body.token] = body
        return Reply("id", workflow_id, "run", "accepted")


def test_poison_on_a_task_topic_costs_a_worker_no_slot(seed: int) -> None:
    offers, grants = Offers(mutations(seed, TaskOffer, 600)), Grants()

    async def scenario() -> None:
        drain = asyncio.Event()
        worker = RemoteWorker(
            WorkerOptions("w", slots=4, lease_s=PATIENCE_S),
            grants,
            offers,
            lambda report, freed: ThreadExecutor(app, ExecutorOptions(freed=freed, slots=4, guarded_slots=4), report),
        )
        work = asyncio.create_task(worker.run(drain))
        good = TaskOffer("w", "run", "0:1", 1, "run/0:1/1", "double", Payload(data=b'{"x":21}'), "key")
        offers.waiting.put(Codec().encode(good))
        async with asyncio.timeout(PATIENCE_S):
            while good.token not in grants.reports:
                assert not work.done(), work.result()
                await asyncio.sleep(0.01)
        drain.set()
        await work
        assert worker._slots.free == 4

    asyncio.run(scenario())
    assert grants.reports["run/0:1/1"].result.data == b"42"
    assert grants.granted > 50
