"""Large values at their edges: who may name a blob, and what comes of one that cannot be had, or written."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator import Orchestrator, RetryPolicy, approval, step_info
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Actor, BlobRef, Payload
from orchestrator.engine.options import EngineOptions
from orchestrator.store.blobs import DirectoryBlobs
from tests.engine.rig import Rig, kill, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
Make = Callable[[Orchestrator], Rig]
MIDDLE, LARGE = 100_000, 1_200_000
"""Bytes that a record takes, and that none does."""
app = Orchestrator("large-values")
go = app.signal("go", str)
ask = app.update("ask", str, int)
seen = app.query("seen", str)
soon = RetryPolicy(initial_interval=timedelta(milliseconds=50))
by_length = app.limit("by-length", concurrency=1, key=lambda text: f"{len(text)}")


@app.step
async def length(text: str) -> int:
    return len(text)


let_go = threading.Event()


def _held(text: str) -> int:
    if step_info().attempt == 1:
        let_go.wait(20)
        raise RuntimeError("again")
    return len(text)


@app.step(retry=soon)
def held(text: str) -> int:
    """Its first attempt fails when the test lets it."""
    return _held(text)


@app.step(retry=soon, on_crash="fail")
def guarded(text: str) -> int:
    """The same, never begun twice."""
    return _held(text)


@app.step(retry=soon)
async def beats(first: str, then: int) -> str:
    """Its second attempt tells what it got of the first."""
    info = step_info()
    if info.attempt == 1:
        info.heartbeat(first)
        info.heartbeat("x" * then)
        raise RuntimeError("again")
    return str(info.details)[:5]


@app.workflow
async def measures(size: int) -> int:
    return await length("x" * size)


@app.workflow
async def holds(size: int, on_crash: str) -> int:
    return await (held if on_crash == "retry" else guarded)("x" * size)


@app.workflow
async def tells(first: str, then: int) -> str:
    return await beats(first, then)


@app.workflow
async def waits(text: str) -> int:
    async def asked(more: str) -> int:
        return len(more)

    ask.handle(asked)
    return len(text) + len(await go.wait())


@app.workflow
async def asks(size: int) -> bool:
    return bool(await approval("deploy", "x" * size))


@app.workflow
async def notes(size: int) -> int:
    return await length_of.options(memo={"text": "x" * size})("short")


@app.workflow
async def length_of(text: str) -> int:
    return len(text)


@app.workflow
async def shows(size: int) -> int:
    def shown() -> str:
        return "x" * size

    seen.answer(shown)
    return len(await go.wait())


@app.workflow(limits=[by_length])
async def limited(text: str) -> int:
    return len(text)


def options(directory: Path, inline: int = 65_536) -> EngineOptions:
    return EngineOptions(blobs=DirectoryBlobs(directory), inline_bytes=inline)


def blob_file(directory: Path) -> Path:
    """The one blob there is."""
    (path,) = directory.glob("??/*")
    return path


def taken_away(directory: Path) -> Callable[[], None]:
    """Take the one blob away; what puts it back."""
    path = blob_file(directory)
    data = path.read_bytes()
    path.unlink()

    def put_back() -> None:
        path.write_bytes(data)

    return put_back


def text(size: int) -> Payload:
    return Payload(data=b'"' + b"x" * (size - 2) + b'"')


# -- who may name a blob ---------------------------------------------------------------------------------------------


def test_a_plain_producer_sends_bytes_and_the_engine_keeps_them(rig: Make, tmp_path: Path) -> None:
    """As many as a record takes; an event would have no room for them beside its head."""
    one = rig(app)
    one.engine(options(tmp_path))
    one.start("w", waits, "")
    one.accepted("w", c.SignalWorkflow("go", text(999_500)))
    assert one.result("w") == b"999498"
    assert one.bodies(e.SignalReceived, "w")[0].payload.blob.size == 999_500


def test_without_a_store_a_plain_producer_is_told_the_limit(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", waits, "")
    refused = one.ask("w", c.SignalWorkflow("go", text(999_950)))
    assert (refused.outcome, refused.code) == ("rejected", "limit")
    assert "SignalReceived go of w" in refused.message
    one.signal("w", "go", b'"abc"')
    assert one.result("w") == b"3"


NOWHERE = Payload(data=b"", blob=BlobRef("directory", "0" * 64, 5))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (c.SignalWorkflow("go", NOWHERE), "w, payload of SignalWorkflow: blob 0000.* is not in"),
        (c.UpdateWorkflow("ask", NOWHERE), "w, payload of UpdateWorkflow: blob 0000.* is not in"),
        (c.ForkWorkflow(event=1, arguments=NOWHERE), "w, arguments of ForkWorkflow: blob 0000.* is not in"),
        (c.ResolveStep("", "0:1", "complete", NOWHERE), "w, result of ResolveStep: blob 0000.* is not in"),
        (c.StartWorkflow("waits", memo=NOWHERE), "w, memo of StartWorkflow: it is in a blob, and has to be in the"),
        (c.SignalWorkflow("go", NOWHERE._replace(data=b"1")), "w, payload of SignalWorkflow: it has both bytes and"),
    ],
)
def test_a_blob_that_is_not_here_is_refused_before_anything_is_recorded(
    rig: Make, tmp_path: Path, body: c.TopicCommand, says: str
) -> None:
    one = rig(app)
    one.engine(options(tmp_path))
    one.start("w", waits, "")
    reply = one.ask("w", body)
    assert (reply.outcome, reply.code) == ("rejected", "blob")
    assert re.search(says, reply.message), reply.message
    assert reply.message.endswith("Nothing was done")
    assert set(one.kinds("w")) <= {"RunStarted", "TurnAttempted", "CommandRejected"}


def test_an_engine_without_a_store_refuses_what_a_caller_names(rig: Make) -> None:
    one = rig(app)
    one.engine()
    reply = one.ask("w", c.StartWorkflow("waits", NOWHERE))
    assert (reply.code, "there is no blob store" in reply.message) == ("blob", True)


def test_a_limit_by_key_reads_a_large_argument(rig: Make, tmp_path: Path) -> None:
    one = rig(app)
    one.engine(options(tmp_path))
    one.start("w", limited, "x" * MIDDLE)
    assert one.result("w") == b"100000"
    assert [need.key for need in one.bodies(e.RunStarted, "w")[0].limits] == ["100000"]


# -- blobs that cannot be had ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_crash", ["retry", "fail"])
def test_a_step_whose_arguments_are_lost_fails_and_goes_on_when_they_are_back(
    rig: Make, tmp_path: Path, on_crash: str
) -> None:
    let_go.clear()
    one = rig(app)
    engine = one.engine(options(tmp_path))
    one.start("w", holds, MIDDLE, on_crash)
    until(lambda: bool(engine.executor.running()))
    put_back = taken_away(tmp_path)
    let_go.set()
    failures = [event.failure for event in one.wait_for(e.StepAttemptFailed, "w", 3)]
    assert [failure.type for failure in failures[:3]] == ["RuntimeError", "BlobMissing", "BlobMissing"]
    assert "of workflow 'w', attempt 2, its arguments: blob" in failures[1].message
    put_back()
    assert one.result("w") == b"100000"


def test_a_run_whose_argument_is_lost_takes_no_update_and_says_why(rig: Make, tmp_path: Path) -> None:
    one = rig(app)
    first = one.engine(options(tmp_path))
    one.start("w", waits, "x" * MIDDLE)
    put_back = taken_away(tmp_path)
    kill(first)
    one.engine(options(tmp_path), stores={})
    asked = c.UpdateWorkflow("ask", Payload(data=b'{"more":"abc"}'))
    while (said := one.ask("w", asked)).outcome == "not_ready":
        one.site.wait(0.01)
    assert (said.outcome, said.code) == ("rejected", "not_running")
    assert "arguments of waits (RunStarted): blob" in one.parked("w")
    put_back()
    one.accepted("w", c.RetryWorkflow())
    one.signal("w", "go", b'"abc"')
    assert one.until("w", lambda reply: reply.code == "completed").result.data == b"100003"


def test_what_an_engine_sends_is_recorded_and_its_run_waits_for_the_blob(rig: Make, tmp_path: Path) -> None:
    """The engine that sent it had it: a child that stands still can be helped, a refused one has failed its parent."""
    one = rig(app)
    one.engine(options(tmp_path))
    actor = Actor("child", "p/r")
    command = c.Command("c1", "w", c.StartWorkflow("waits", NOWHERE), actor, reply_to=one.site.reply_to)
    one.send_raw(b"w", one.codec.encode_command(command))
    assert one.answers("c1")[0].outcome == "accepted"
    assert "arguments of waits (RunStarted): blob" in one.parked("w")


# -- blobs that cannot be written ------------------------------------------------------------------------------------


def test_while_blobs_cannot_be_written_what_fits_is_on_the_log(rig: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    one = rig(app)
    one.engine(options(tmp_path / "file"))
    one.start("w", measures, MIDDLE)
    assert one.result("w") == b"100000"
    assert len(one.bodies(e.StepScheduled, "w")[0].arguments.data) > MIDDLE


def test_a_turn_whose_values_cannot_be_written_parks_its_run_and_names_the_step(rig: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    one = rig(app)
    one.engine(options(tmp_path / "file"))
    one.start("w", measures, LARGE)
    assert "length: a blob of 1,200,0" in one.parked("w")
    assert "StepScheduled" not in one.kinds("w")


def test_details_that_cannot_be_written_leave_those_before(rig: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    one = rig(app)
    one.engine(options(tmp_path / "file"))
    one.start("w", tells, "first", LARGE)
    assert one.result("w") == b'"first"'


def test_large_details_reach_the_next_attempt(rig: Make, tmp_path: Path) -> None:
    one = rig(app)
    one.engine(options(tmp_path))
    one.start("w", tells, "first", LARGE)
    assert one.result("w") == b'"xxxxx"'
    assert one.bodies(e.StepHeartbeat, "w")[-1].details.blob.size == LARGE + 2


# -- what is never a blob --------------------------------------------------------------------------------------------


@pytest.mark.contract("limits")
@pytest.mark.parametrize(("code", "says"), [(asks, "deploy: 1200002 bytes"), (notes, "length_of: 1200027 bytes")])
def test_what_the_engine_shows_stays_in_its_record_and_is_named_when_it_does_not_fit(
    rig: Make, tmp_path: Path, code: object, says: str
) -> None:
    one = rig(app)
    one.engine(options(tmp_path))
    one.start("w", code, LARGE)
    assert says in one.parked("w")
    assert set(one.kinds("w")) == {"RunStarted", "RunParked"}


@pytest.mark.contract("limits")
def test_an_answer_beyond_a_record_is_refused_and_not_lost(rig: Make, tmp_path: Path) -> None:
    one = rig(app)
    one.engine(options(tmp_path))
    one.start("w", shows, LARGE)
    refused = one.ask("w", c.QueryWorkflow("code", name="seen"))
    assert (refused.outcome, refused.code) == ("rejected", "limit")
    assert "the answer to code seen has 1,200,002 bytes" in refused.message
