"""Bad input on a real broker: what it takes that a log in memory does not, and the same outcomes. One engine sees it
all, one after the other, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.engine.options import EngineOptions
from tests.engine.rig import PATIENCE_S, KafkaSite, Rig
from tests.engine.test_bad_input import app, asks_nobody, doubled, fetches, on, passes, waits

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

pytestmark = pytest.mark.broker

holding = threading.Event()
OPTIONS = EngineOptions(event_bytes=50_000)


@app.step(name="held")
def hold() -> int:
    """A step under way for as long as a test likes."""
    holding.wait(PATIENCE_S)
    return 7


@app.workflow
async def holds() -> int:
    return await hold()


class Bad(Rig):
    """The application, one engine, and a plain producer that may send anything."""

    def __init__(self, app: Orchestrator, bootstrap: str) -> None:
        super().__init__(app, KafkaSite(app.name, bootstrap))
        self.topic = f"{app.name}.commands"
        self.plain = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 2_000_000})
        self._bootstrap = bootstrap

    def put(self, key: bytes | None, value: bytes | None, partition: int = 0) -> None:
        """A record as it is, without a client of ours."""
        self.plain.produce(self.topic, value, key, partition)
        assert self.plain.flush(PATIENCE_S) == 0

    def transaction(self, *values: bytes, commit: bool) -> None:
        """Records of a caller's transaction on partition 0, whose marker lies behind them."""
        caller = Producer({"bootstrap.servers": self._bootstrap, "transactional.id": f"caller-{commit}"})
        caller.init_transactions(PATIENCE_S)
        caller.begin_transaction()
        for value in values:
            caller.produce(self.topic, value, b"w", 0)
        assert caller.flush(PATIENCE_S) == 0
        caller.commit_transaction(PATIENCE_S) if commit else caller.abort_transaction(PATIENCE_S)

    def goes_on(self, workflow: str) -> None:
        """The next command of the same partition is taken."""
        self.start(workflow, doubled, 21)
        assert self.result(workflow) == b"42"

    def letters(self) -> list[e.DeadLettered]:
        """What became dead letters; each is on their topic as well."""
        found = self.bodies(e.DeadLettered)
        sent = [self.codec.decode(raw.value) for part in self.records("dead-letters").values() for raw in part]
        assert {(one.partition, one.offset, one.reason) for one in found} <= {
            (one.partition, one.offset, one.reason) for one in sent
        }
        return found


@pytest.fixture(scope="module")
def one(kafka: DevKafka) -> Iterator[Bad]:
    made = Bad(app, kafka.bootstrap)
    made.engine(OPTIONS)
    yield made
    made.close()


def encoded(one: Bad, body: Any, command_id: str = "", workflow: str = "w") -> bytes:
    return one.codec.encode_command(c.Command(command_id, workflow, body))


@pytest.mark.contract("bad-input")
def test_records_that_are_no_commands_are_dead_letters_each_with_its_reason(one: Bad) -> None:
    cancel = encoded(one, c.CancelWorkflow(), "cut")
    sent: dict[bytes, str] = {
        b"": "",
        b"\xc3\x01": "",
        b"hello, world": "",
        cancel[:-3]: "",
        cancel + b"x": "",
        b"\xc3\x01" + bytes(range(8)) + b"body": "unknown schema 0001020304050607",
        one.codec.seal(e.Event("w", "r", 1, e.TimerFired("0:1", 1))).value: "schemas/events",
        encoded(one, c.CancelWorkflow(), ""): "this one has 0",
        encoded(one, c.CancelWorkflow(), "x" * 1_025): "this one has 1,025",
    }
    before = len(one.letters())
    for value in sent:
        one.put(on(0).encode(), value)
    one.goes_on(on(0))
    letters = one.letters()[before:]
    assert [letter.value.data for letter in letters] == list(sent)
    assert [
        letter.reason for letter in letters if not letter.reason or sent[letter.value.data] not in letter.reason
    ] == []
    assert {(letter.topic, letter.partition) for letter in letters} == {(one.topic, 0)}


@pytest.mark.contract("bad-input")
def test_a_record_without_key_or_value_stops_nobody(one: Bad) -> None:
    """No log in memory has such records; Kafka's compaction calls them tombstones."""
    before = len(one.letters())
    one.put(None, None)
    one.put(b"w", None)
    one.put(None, encoded(one, c.StartWorkflow("doubled", Payload(data=b'{"x":4}')), "no key", on(0, "keyless")))
    assert one.result(on(0, "keyless")) == b"8"
    letters = one.letters()[before:]
    assert [letter.value.data for letter in letters] == [b"", b""]
    one.goes_on(on(0, "after"))


@pytest.mark.contract("bad-input")
def test_a_record_as_large_as_the_broker_takes_stops_nobody(one: Bad) -> None:
    value, key = b"\xff" * 1_020_000, b"k" * 25_000
    one.put(key, value)
    one.goes_on(on(0, "large"))
    letter = one.letters()[-1]
    assert "1,020,000 bytes" in letter.reason
    assert value.startswith(letter.value.data)
    assert key.startswith(letter.key)


def test_what_a_caller_took_back_was_never_asked(one: Bad) -> None:
    """Records of aborted transactions, and markers, lie between commands and are none."""
    start = c.StartWorkflow("doubled", Payload(data=b'{"x":4}'))
    one.transaction(encoded(one, start, "aborted", on(0, "aborted")), commit=False)
    one.transaction(encoded(one, start, "whole", on(0, "whole")), b"noise in a transaction", commit=True)
    one.goes_on(on(0, "behind"))
    assert one.result(on(0, "whole")) == b"8"
    assert one.letters()[-1].value.data == b"noise in a transaction"
    assert one.ask(on(0, "aborted"), c.CancelWorkflow()).code == "not_found"


@pytest.mark.contract("forwarded")
def test_a_command_on_the_wrong_partition_is_forwarded_with_its_id(one: Bad) -> None:
    workflow = on(1, "astray")
    body = c.StartWorkflow("doubled", Payload(data=b'{"x":4}'))
    assert one.answers(one.send(workflow, body, "the-id", partition=0))[0].outcome == "accepted"
    assert one.result(workflow) == b"8"
    forwarded = [body for body in one.bodies(e.CommandForwarded) if body.command_id == "the-id"]
    assert [body.to_partition for body in forwarded] == [1]


@pytest.mark.contract("limits")
def test_what_is_too_large_ends_or_parks_what_it_belongs_to_alone(one: Bad) -> None:
    for workflow, code in (("result", fetches), ("argument", passes)):
        one.start(workflow, code, 60_000)
    one.start("signalled", waits)
    refused = one.ask("signalled", c.SignalWorkflow("go", Payload(data=b" " * 60_000 + b"1")))
    assert (refused.outcome, refused.code) == ("rejected", "limit")
    one.signal("signalled", "go", b"5")
    assert int(one.result("result")) < 0
    assert one.bodies(e.StepFailed, "result")[0].failure.type == "LimitExceeded"
    assert "count" in one.parked("argument")
    assert one.result("signalled") == b"5"


def test_a_missing_task_topic_ends_its_step_alone(one: Bad) -> None:
    one.start("nowhere", asks_nobody)
    one.goes_on("beside")
    assert b"nowhere" in one.result("nowhere")
    assert [body.topic for body in one.bodies(e.SendFailed, "nowhere")] == ["tasks.nowhere"]


def test_what_comes_too_late_is_a_recorded_rejection(one: Bad) -> None:
    one.start("late", holds)
    scheduled = one.wait_for(e.StepScheduled, "late")[0]
    run_id, step = one.events("late")[0].run_id, f"{scheduled.path}:{scheduled.n}"
    report = c.ReportStep(run_id, step, 1, "forged", Payload(data=b"666"))
    assert one.ask("late", report).code == "stale_attempt"
    holding.set()
    assert one.result("late") == b"7"
    assert one.ask("late", report._replace(token=f"{run_id}/{step}/1")).code == "stale_attempt"
    bodies = (c.SignalWorkflow("go", Payload(data=b"1")), c.CancelWorkflow(), c.TerminateWorkflow(), c.RetryWorkflow())
    assert [one.ask("late", body).code for body in bodies] == ["run_closed"] * 4
    assert len(one.bodies(e.StepCompleted, "late")) == 1


def test_a_duplicate_gets_the_original_answer_after_a_take_over_too(one: Bad) -> None:
    body = c.StartWorkflow("waits", Payload(data=b"{}"))
    first = one.ask("again", body, "once")
    one.send("again", body, "once")
    assert one.answers("once", 2)[1] == first
    one.engines.pop().stop(1.0)
    one.engine(OPTIONS, stores={})
    one.send("again", body, "once")
    assert one.answers("once", 3)[2] == first
    assert len(one.bodies(e.RunStarted, "again")) == 1
