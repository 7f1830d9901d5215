"""Input that no run can take, or that comes too late, has the outcome that the documents name and delays nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Failure, Payload
from orchestrator.engine.options import EngineOptions
from orchestrator.log.partitioner import partition_of
from orchestrator.store.blobs import DirectoryBlobs
from tests.engine.rig import Rig

Make = Callable[[Orchestrator], Rig]

app = Orchestrator("bad-input")
go = app.signal("go", int)


@app.step
async def double(x: int) -> int:
    """A step that works."""
    return 2 * x


@app.step
async def large(size: int) -> str:
    """A result of `size` characters."""
    return "x" * size


@app.step(queue="nowhere")
async def remote() -> int:
    """A step for a queue without a topic."""
    return 1


@app.workflow
async def doubled(x: int) -> int:
    return await double(x)


@app.workflow
async def has_a_child(child_id: str) -> int:
    return await doubled.options(id=child_id)(7)


@app.workflow
async def waits() -> int:
    return await go.wait()


@app.workflow
async def fetches(size: int) -> int:
    try:
        return len(await large(size))
    except Exception as error:
        return -len(str(error))


@app.workflow
async def passes(size: int) -> int:
    return await count("y" * size)


@app.step
async def count(text: str) -> int:
    """Length of what it is given."""
    return len(text)


@app.workflow
async def asks_nobody() -> str:
    try:
        await remote()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "?"


def on(partition: int, name: str = "w") -> str:
    """A workflow id of a partition of two."""
    return next(f"{name}{n}" for n in range(100) if partition_of(f"{name}{n}".encode(), 2) == partition)


@pytest.mark.contract("bad-input")
@pytest.mark.parametrize("value", [b"", b"\xc3\x01", b"hello, world", b"\xc3\x01" + b"\x07" * 8 + b"body", None])
def test_undecodable_bytes_go_to_the_dead_letters_and_the_next_command_is_taken(rig: Make, value: bytes | None) -> None:
    one = rig(app)
    one.engine()
    whole = one.codec.encode_command(c.Command("cut", "w", c.CancelWorkflow()))
    value = whole[:-3] if value is None else value
    one.send_raw(on(0).encode(), value, 0)
    one.start(on(0), doubled, 21)
    assert one.result(on(0)) == b"42"
    letter = one.wait_for(e.DeadLettered)[0]
    assert letter.value.data == value
    assert (letter.topic, letter.partition, letter.offset) == ("bad-input.commands", 0, 0)
    assert letter.reason
    sent = one.records("dead-letters")[0]
    assert one.codec.decode(sent[0].value).reason == letter.reason


@pytest.mark.contract("bad-input")
@pytest.mark.parametrize("kept", ["blob", "beginning"])
def test_bytes_that_do_not_fit_into_an_event_stop_nobody(rig: Make, tmp_path: Path, kept: str) -> None:
    """A broker takes larger records than an event may be, with keys as large."""
    one = rig(app)
    blobs = DirectoryBlobs(tmp_path)
    one.engine(EngineOptions(blobs=blobs if kept == "blob" else None))
    value, key = b"\xff" * 1_020_000, b"k" * 30_000
    one.send_raw(key, value, 0)
    one.start(on(0), doubled, 21)
    assert one.result(on(0)) == b"42"
    letter = one.wait_for(e.DeadLettered)[0]
    if kept == "blob":
        assert blobs.get(letter.value.blob) == value
    else:
        assert value.startswith(letter.value.data)
        assert "1,020,000 bytes" in letter.reason
    assert key.startswith(letter.key)


@pytest.mark.contract("bad-input")
@pytest.mark.parametrize("where", ["workflow", "run"])
def test_a_command_whose_refusal_does_not_fit_is_a_dead_letter(rig: Make, where: str) -> None:
    one = rig(app)
    one.engine()
    large = "w" * 999_000
    ids = (large, "") if where == "workflow" else (on(0), large)
    command = c.Command("id", ids[0], c.SignalWorkflow("go", Payload(data=b"1"), ids[1]))
    one.send_raw(on(0).encode(), one.codec.encode_command(command), 0)
    one.start(on(0), doubled, 21)
    assert one.result(on(0)) == b"42"
    assert one.wait_for(e.DeadLettered if where == "workflow" else e.CommandRejected)


@pytest.mark.contract("limits")
def test_who_asks_with_a_workflow_id_as_large_as_a_record_is_answered(rig: Make) -> None:
    one = rig(app)
    one.engine()
    command = c.Command("id", "w" * 998_000, c.CancelWorkflow(), reply_to=one.site.reply_to)
    one.send_raw(on(0).encode(), one.codec.encode_command(command), 0)
    reply = one.answers("id")[0]
    assert (reply.outcome, reply.code) == ("rejected", "limit")
    assert reply.workflow_id == "w" * 1_024
    assert one.wait_for(e.DeadLettered)


@pytest.mark.contract("bad-input")
def test_an_unknown_schema_is_named_in_the_dead_letter(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.send_raw(b"k", b"\xc3\x01" + bytes(range(8)) + b"body", 1)
    assert "unknown schema 0001020304050607" in one.wait_for(e.DeadLettered)[0].reason


def test_an_event_on_the_commands_topic_is_no_command(rig: Make) -> None:
    one = rig(app)
    one.engine()
    value = one.codec.seal(e.Event("w", "r", 1, e.TimerFired("0:1", 1))).value
    one.send_raw(b"w", value, 0)
    assert "schemas/events" in one.wait_for(e.DeadLettered)[0].reason


@pytest.mark.parametrize("command_id", ["", "x" * 1_025])
def test_a_command_without_a_usable_id_is_a_dead_letter(rig: Make, command_id: str) -> None:
    one = rig(app)
    one.engine()
    command = c.Command(command_id, "w", c.StartWorkflow("doubled"))
    one.send_raw(b"w", one.codec.encode_command(command))
    assert f"this one has {len(command_id):,}" in one.wait_for(e.DeadLettered)[0].reason


@pytest.mark.contract("limits")
@pytest.mark.parametrize("command_id", ["", "x" * 1_025, "\u00e9" * 60_000])
def test_who_sends_a_command_without_a_usable_id_is_answered(rig: Make, command_id: str) -> None:
    """A plain producer: clients do not send such a command."""
    one = rig(app)
    one.engine()
    command = c.Command(command_id, "w", c.StartWorkflow("doubled"), reply_to=one.site.reply_to)
    one.send_raw(b"w", one.codec.encode_command(command))
    reply = one.answers(command_id)[0]
    assert (reply.outcome, reply.code) == ("rejected", "limit" if command_id else "bad_request")
    assert "1 to 1,024 characters" in reply.message
    assert one.wait_for(e.DeadLettered)[0].reason == reply.message
    assert not one.events("w")


@pytest.mark.contract("limits")
def test_a_command_id_of_the_greatest_length_is_taken(rig: Make) -> None:
    one = rig(app)
    one.engine()
    arguments = doubled.code.signature.bind((4,), {})
    assert one.ask("w", c.StartWorkflow("doubled", arguments), "x" * 1_024).outcome == "accepted"
    assert one.result("w") == b"8"


@pytest.mark.contract("waits-for-code")
def test_an_unknown_workflow_waits_for_code(rig: Make) -> None:
    one = rig(app)
    engine = one.engine()
    late = Orchestrator("bad-input")

    @late.workflow(name="unheard")
    async def unheard(x: int) -> int:
        return x + 1

    one.start("w", unheard, 1)
    described = one.ask("w", c.QueryWorkflow("describe"))
    assert b"waits for code" in described.result.data
    assert one.kinds("w") == ["RunStarted"]
    engine.stop(1.0)
    one.engine(app=late)
    assert one.result("w") == b"2"
    assert one.kinds("w") == ["RunStarted", "RunPinned", "RunCompleted"]


@pytest.mark.contract("waits-for-code", "flow-priority")
def test_a_run_that_waits_for_code_keeps_its_priority(rig: Make) -> None:
    one = rig(app)
    engine = one.engine()
    late = Orchestrator("bad-input")

    @late.workflow(name="unheard", limits=[late.limit("ranks", concurrency=1)])
    async def unheard(x: int) -> int:
        return x + 1

    one.start("w", unheard, 1, priority=5)
    engine.stop(1.0)
    one.engine(app=late)
    assert one.result("w") == b"2"
    (pinned,) = one.bodies(e.RunPinned, "w")
    assert [need.priority for need in pinned.limits] == [5]


@pytest.mark.contract("bad-input")
def test_a_start_of_an_impossible_priority_is_refused(rig: Make) -> None:
    """The home of its limits would refuse to queue it, and its run wait for ever."""
    one = rig(app)
    one.engine()
    arguments = doubled.code.signature.bind((4,), {})
    for priority in (1_000_001, -1_000_001):
        reply = one.ask("w", c.StartWorkflow("doubled", arguments, priority=priority))
        assert (reply.outcome, reply.code) == ("rejected", "bad_request")
        assert reply.message == f"priority is {priority}: -1000000 to 1000000"
    assert not one.bodies(e.RunStarted)


@pytest.mark.contract("forwarded")
def test_a_command_on_the_wrong_partition_is_forwarded_with_its_id(rig: Make) -> None:
    one = rig(app)
    one.engine()
    body = c.StartWorkflow("doubled", doubled.code.signature.bind((4,), {}))
    sent = one.send(on(1), body, "the-id", partition=0)
    assert one.answers(sent)[0].outcome == "accepted"
    assert one.result(on(1)) == b"8"
    forwarded = one.bodies(e.CommandForwarded)
    assert [(f.command_id, f.to_partition) for f in forwarded] == [("the-id", 1)]
    started = next(event for event in one.events(on(1)) if isinstance(event.body, e.RunStarted))
    assert started.cause.command_id == "the-id"


@pytest.mark.contract("limits")
def test_an_oversized_result_fails_its_step_alone(rig: Make) -> None:
    one = rig(app)
    one.engine(EngineOptions(event_bytes=20_000))
    one.start("w", fetches, 30_000)
    one.start("v", fetches, 100)
    assert int(one.result("w")) < 0
    assert one.result("v") == b"100"
    failure = one.bodies(e.StepFailed, "w")[0].failure
    assert failure.type == "LimitExceeded"
    assert "30,002 bytes" in failure.message


@pytest.mark.contract("limits")
def test_an_oversized_argument_parks_the_run_and_names_step_and_size(rig: Make) -> None:
    one = rig(app)
    one.engine(EngineOptions(event_bytes=20_000))
    one.start("w", passes, 30_000)
    message = one.parked("w")
    assert "count" in message
    assert "30" in message
    one.start("v", passes, 10)
    assert one.result("v") == b"10"


@pytest.mark.contract("limits")
def test_an_oversized_signal_is_rejected_before_anything_is_committed(rig: Make) -> None:
    one = rig(app)
    one.engine(EngineOptions(event_bytes=20_000))
    one.start("w", waits)
    reply = one.ask("w", c.SignalWorkflow("go", Payload(data=b" " * 30_000 + b"1")))
    assert (reply.outcome, reply.code) == ("rejected", "limit")
    one.signal("w", "go", b"5")
    assert one.result("w") == b"5"


def test_a_missing_task_topic_ends_its_step_alone(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", asks_nobody)
    one.start("v", doubled, 3)
    assert b"nowhere" in one.result("w")
    assert one.result("v") == b"6"
    failed = one.bodies(e.SendFailed, "w")
    assert [body.topic for body in failed] == ["tasks.nowhere"]
    assert [body.failure.type for body in one.bodies(e.StepFailed, "w")] == ["SendFailed"]
    assert "SendFailed" not in one.kinds("v")


def test_a_command_for_a_closed_run_is_a_recorded_rejection(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", doubled, 1)
    one.result("w")
    bodies = (c.SignalWorkflow("go", Payload(data=b"1")), c.CancelWorkflow(), c.TerminateWorkflow(), c.RetryWorkflow())
    assert [one.ask("w", body).code for body in bodies] == ["run_closed"] * 4
    assert [body.code for body in one.bodies(e.CommandRejected)] == ["run_closed"] * 4
    assert one.ask("nobody", c.CancelWorkflow()).code == "not_found"
    assert one.kinds("w").index("RunCompleted") == 3


def test_a_result_of_a_stale_attempt_is_a_recorded_rejection(rig: Make) -> None:
    held = threading.Event()
    slow = Orchestrator("bad-input")

    @slow.step(name="held")
    def hold() -> int:
        held.wait(10)
        return 7

    @slow.workflow(name="holds")
    async def holds() -> int:
        return await hold()

    one = rig(slow)
    one.engine()
    one.start("w", holds)
    scheduled = one.wait_for(e.StepScheduled, "w")[0]
    run_id = one.events("w")[0].run_id
    step = f"{scheduled.path}:{scheduled.n}"
    for attempt, token in ((2, f"{run_id}/{step}/2"), (1, "forged")):
        report = c.ReportStep(run_id, step, attempt, token, Payload(data=b"666"))
        assert one.ask("w", report).code == "stale_attempt"
    held.set()
    assert one.result("w") == b"7"
    late = c.ReportStep(run_id, step, 1, f"{run_id}/{step}/1", Payload(data=b"666"))
    assert one.ask("w", late).code == "stale_attempt"
    assert len(one.bodies(e.StepCompleted, "w")) == 1


def test_a_duplicate_command_gets_the_original_answer_and_starts_nothing(rig: Make) -> None:
    one = rig(app)
    one.engine()
    body = c.StartWorkflow("doubled", doubled.code.signature.bind((1,), {}))
    for _ in range(3):
        one.send("w", body, "again")
    replies = one.answers("again", 3)
    assert len(set(replies)) == 1
    assert len(replies) == 3
    one.result("w")
    assert len(one.bodies(e.RunStarted, "w")) == 1
    # Also long after the run closed, and the answer of a rejection too.
    one.send("w", body, "again")
    assert one.answers("again", 4)[-1] == replies[0]
    refused = one.ask("w", c.SignalWorkflow("go"), "late")
    one.send("w", c.SignalWorkflow("go"), "late")
    assert one.answers("late", 2)[1] == refused
    assert len(one.bodies(e.RunStarted, "w")) == 1


def test_a_duplicate_after_a_take_over_gets_the_original_answer(rig: Make) -> None:
    one = rig(app)
    engine = one.engine()
    body = c.StartWorkflow("waits", Payload(data=b"{}"))
    first = one.ask("w", body, "once")
    engine.stop(1.0)
    one.engine(stores={})
    one.send("w", body, "once")
    assert one.answers("once", 2)[1] == first
    assert len(one.bodies(e.RunStarted, "w")) == 1


def test_a_bad_workflow_id_is_refused(rig: Make) -> None:
    one = rig(app)
    one.engine()
    assert one.ask("a\x00b", c.StartWorkflow("doubled")).code == "bad_request"
    assert one.ask("x" * 2_000, c.StartWorkflow("doubled")).code == "bad_request"


@pytest.mark.contract("limits")
@pytest.mark.parametrize("letter", ["w", "\u00e9", "\U0001d11e"])
def test_a_workflow_id_has_1024_bytes_whatever_its_letters(rig: Make, letter: str) -> None:
    one = rig(app)
    one.engine()
    longest = letter * (1_024 // len(letter.encode()))
    one.start(longest, doubled, 21)
    assert one.result(longest) == b"42"
    reply = one.ask(f"{longest}w", c.StartWorkflow("doubled"))
    assert (reply.outcome, reply.code) == ("rejected", "bad_request")
    assert "at most 1,024 bytes in UTF-8, this one has 1,025" in reply.message


@pytest.mark.contract("limits")
@pytest.mark.parametrize("letter", ["w", "\u00e9"])
def test_a_child_with_the_longest_id_reports_to_its_parent(rig: Make, letter: str) -> None:
    """What an engine sends for a run is named after its workflow id, and no longer than a command id may be."""
    one = rig(app)
    one.engine()
    parent, child = (letter * (1_022 // len(letter.encode())) + end for end in ("pp", "cc"))
    one.start(parent, has_a_child, child)
    assert one.result(parent) == b"14"
    assert not one.bodies(e.DeadLettered)


def test_conflict_and_reuse_policies(rig: Make) -> None:
    one = rig(app)
    one.engine()
    start = c.StartWorkflow("waits", Payload(data=b"{}"))
    first = one.ask("w", start)
    assert one.ask("w", start).code == "already_running"
    used = one.ask("w", start._replace(conflict="use_existing"))
    assert (used.outcome, used.run_id) == ("accepted", first.run_id)
    second = one.ask("w", start._replace(conflict="terminate_existing"))
    assert second.outcome == "accepted"
    assert one.outcome("w", first.run_id).code == "terminated"
    one.signal("w", "go", b"1")
    one.result("w")
    assert one.ask("w", start._replace(reuse="reject")).code == "already_closed"
    assert one.ask("w", start._replace(reuse="allow_if_failed")).code == "already_closed"
    assert one.ask("w", start).outcome == "accepted"


def test_resolving_a_step_that_waits_for_nobody_is_refused(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", waits)
    reply = one.ask("w", c.ResolveStep(one.events("w")[0].run_id, "0:9", "fail", failure=Failure("E", "m")))
    assert (reply.outcome, reply.code) == ("rejected", "not_found")


def test_a_name_that_the_configuration_refuses_is_a_dead_letter_until_it_is_allowed(rig: Make) -> None:
    one = rig(app)
    engine = one.engine(EngineOptions(refused=("dou*",)))
    start = c.StartWorkflow("doubled", doubled.code.signature.bind((4,), {}))
    reply = one.ask("w", start, "once")
    assert (reply.outcome, reply.code) == ("rejected", "refused")
    assert "ORCHESTRATOR_REFUSE" in reply.message
    (letter,) = one.bodies(e.DeadLettered)
    assert "'dou*'" in letter.reason
    one.start("v", waits)
    engine.stop(1.0)
    one.engine()
    one.send("w", start, "once")
    assert one.result("w") == b"8"
