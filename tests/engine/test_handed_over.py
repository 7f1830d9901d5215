"""Steps whose partition moved while they ran: who carries one on asks, and the partition's owner waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Orchestrator, StepFailed
from orchestrator.core import commands as c, events as e, ids
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload
from orchestrator.engine import handed_over
from orchestrator.engine.handed_over import KIND, MOST_MS, Renewals
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import State
from orchestrator.engine.queries import Queries
from orchestrator.engine.run import Engine
from orchestrator.errors import KafkaUnavailable
from orchestrator.log.partitioner import partition_of
from orchestrator.testing.clock import SkippingClock
from orchestrator.testing.memory_log import MemoryLog
from tests.engine.rig import Rig, kill, until

pytestmark = pytest.mark.slow

Make = Callable[[Orchestrator], Rig]
WINDOW_S = 60.0
MOVES = 1
"""The partition that goes to the second engine of a group of two."""
RUN = next(f"w{n}" for n in range(99) if partition_of(f"w{n}".encode(), 2) == MOVES)


class Script:
    """Steps that run until the test lets them go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.began: list[str] = []
        self.ended: list[str] = []
        app = self.app = Orchestrator("carried")

        def hold(name: str) -> str:
            self.began.append(name)
            self.open.wait(30)
            return name

        async def listen(name: str) -> str:
            self.began.append(name)
            try:
                while not self.open.is_set():
                    await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                self.ended.append(name)
                raise
            return name

        retry = app.step(name="retry")(hold)
        fail = app.step(name="fail", on_crash="fail")(hold)
        told = app.step(name="told")(listen)
        timed = app.step(name="timed", start_to_close=timedelta(seconds=3 * WINDOW_S))(listen)

        @app.workflow(name="run")
        async def run(kind: str) -> str:
            try:
                return await {"retry": retry, "fail": fail, "told": told, "timed": timed}[kind](kind)
            except StepFailed as error:
                return f"failed: {error}"

        self.run = run


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.open.set()


def options() -> EngineOptions:
    """Of one engine: each has a name of its own."""
    return EngineOptions(hand_over_ms=int(WINDOW_S * 1000))


class Moved:
    """A run whose step went on in `old` when its partition went to `new`, whose clock is the test's."""

    def __init__(self, rig: Rig, script: Script, kind: str) -> None:
        self.rig, self.script = rig, script
        self.old = rig.engine(options(), stores={})
        rig.start(RUN, script.run, kind)
        until(lambda: script.began == [kind])
        self.clock = SkippingClock()
        self.new = self.add()
        rig.wait_for(e.StepHandedOver, RUN)
        self.owned_by(self.new)

    def add(self) -> Engine:
        """One more engine."""
        return self.rig.engine(options(), stores={}, clock=self.clock)

    def owned_by(self, engine: Engine) -> None:
        """Wait until the run's partition is an engine's."""

        def owns() -> bool:
            partition = engine.partitions.get(MOVES)
            return partition is not None and partition.state is State.OWNED

        until(owns)

    def questions(self) -> int:
        """How many there are on the topic."""
        found = [self.rig.codec.decode_command(raw.value).body for raw in self.rig.records("commands")[MOVES]]
        return sum(isinstance(body, c.QueryWorkflow) and body.kind == KIND for body in found)

    def asks(self, engine: Engine, times: int = 1) -> None:
        """Wait until its owner has taken questions that are asked from now on."""
        wanted = self.questions() + times
        until(lambda: self.questions() >= wanted)
        self.read_by(engine)

    def read_by(self, engine: Engine) -> None:
        """Wait until an owner has taken every command that there is."""
        end = self.rig.site.ends(f"{self.script.app.name}.commands")[MOVES].stable
        until(lambda: position(engine) >= end)

    def renewed_s(self, engine: Engine) -> float:
        """How much of the step's window is left at an owner."""
        loop = engine.partitions[MOVES]._loop
        (token,) = self.old.executor.running()
        return loop.steps.renewals.left_s(token) if loop is not None else 0.0

    def windows_pass(self, engine: Engine, count: int) -> None:
        """So many windows, in each of which the step's process asks."""
        for _ in range(2 * count):
            self.asks(engine)
            self.clock.skip(WINDOW_S / 2)

    def through(self, kind: str) -> None:
        """The step ends, as itself."""
        self.script.open.set()
        assert self.rig.result(RUN) == b'"%s"' % kind.encode()
        assert self.script.began == [kind]
        assert self.rig.bodies(e.StepInterrupted) == self.rig.bodies(e.StepAttemptFailed) == []


def position(engine: Engine) -> int:
    """The next command of the partition that its owner takes."""
    loop = engine.partitions[MOVES]._loop if MOVES in engine.partitions else None
    return loop.intake.next_offset if loop is not None else -1


@pytest.fixture(autouse=True)
def asking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows are long, for slow machines' sake."""
    monkeypatch.setattr(handed_over, "ASKS_S", 0.02)


@pytest.mark.parametrize("kind", ["retry", "fail"])
def test_a_step_that_lasts_for_many_windows_is_begun_once(rig: Make, script: Script, kind: str) -> None:
    one = Moved(rig(script.app), script, kind)
    one.windows_pass(one.new, 4)
    one.through(kind)


@pytest.mark.parametrize("kind", ["retry", "fail"])
def test_the_next_owner_waits_for_it_as_well(rig: Make, script: Script, kind: str) -> None:
    one = Moved(rig(script.app), script, kind)
    third = one.add()
    one.new.stop(1.0)
    one.owned_by(third)
    one.windows_pass(third, 3)
    one.through(kind)


def test_a_partition_that_comes_back_is_asked_nothing(rig: Make, script: Script) -> None:
    one = Moved(rig(script.app), script, "retry")
    one.asks(one.new)
    one.new.stop(1.0)
    one.owned_by(one.old)
    assert one.old._carrier._ask() == 0
    one.through("retry")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind", ["retry", "fail"])
def test_a_process_that_asks_no_more_is_gone_when_the_window_is_over(rig: Make, script: Script, kind: str) -> None:
    one = Moved(rig(script.app), script, kind)
    one.windows_pass(one.new, 2)
    one.asks(one.new)
    kill(one.old)
    one.read_by(one.new)
    assert one.rig.bodies(e.StepInterrupted) == []
    assert script.began == [kind]
    one.clock.skip(WINDOW_S)
    if kind == "fail":
        assert b"StepInterrupted" in one.rig.result(RUN)
        assert script.began == [kind]
    else:
        until(lambda: script.began == [kind, kind])
        script.open.set()
        assert one.rig.result(RUN) == b'"retry"'


def test_a_process_that_ends_asks_on_within_its_grace_time(rig: Make, script: Script) -> None:
    one = Moved(rig(script.app), script, "told")
    leaving = threading.Thread(target=one.old.stop, args=(WINDOW_S,))
    leaving.start()
    until(lambda: one.old.ending == "while steps were running")
    one.asks(one.new)
    assert 0 < one.renewed_s(one.new) <= WINDOW_S
    one.rig.accepted(RUN, c.TerminateWorkflow())
    until(lambda: script.ended == ["told"])
    leaving.join()


def test_a_step_hears_that_its_run_is_cancelled(rig: Make, script: Script) -> None:
    one = Moved(rig(script.app), script, "told")
    one.rig.accepted(RUN, c.CancelWorkflow())
    until(lambda: script.ended == ["told"])
    assert one.rig.outcome(RUN).code == "cancelled"
    assert script.began == ["told"]


def test_a_step_hears_that_its_run_was_terminated(rig: Make, script: Script) -> None:
    one = Moved(rig(script.app), script, "told")
    one.rig.accepted(RUN, c.TerminateWorkflow())
    until(lambda: script.ended == ["told"])


def test_a_step_hears_that_its_time_is_over_however_often_its_window_was_renewed(rig: Make, script: Script) -> None:
    one = Moved(rig(script.app), script, "timed")
    one.windows_pass(one.new, 3)
    until(lambda: script.ended == ["timed"])
    assert [body.failure.type for body in one.rig.wait_for(e.StepAttemptFailed, RUN)] == ["StepTimeout"]
    until(lambda: script.began == ["timed"] * 2)
    script.open.set()
    assert one.rig.result(RUN) == b'"timed"'


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_step_that_is_begun_again_has_its_whole_time(rig: Make, script: Script) -> None:
    """It was carried on elsewhere for two thirds of it, until its process died."""
    one = Moved(rig(script.app), script, "timed")
    one.windows_pass(one.new, 1)
    one.asks(one.new)
    kill(one.old)
    one.clock.skip(WINDOW_S + 1)
    until(lambda: script.began == ["timed"] * 2)
    one.clock.skip(2 * WINDOW_S)
    one.rig.ask(RUN, c.QueryWorkflow("describe"))
    assert one.rig.bodies(e.StepAttemptFailed) == []
    script.open.set()
    assert one.rig.result(RUN) == b'"timed"'


def test_who_may_not_hear_answers_renews_all_the_same(
    rig: Make, script: Script, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(log: MemoryLog, sink: Any) -> Any:
        raise KafkaUnavailable("no right to read carried.replies")

    monkeypatch.setattr(MemoryLog, "replies", refused)
    one = Moved(rig(script.app), script, "retry")
    one.windows_pass(one.new, 3)
    one.through("retry")
    said = [record.getMessage() for record in caplog.records if record.name == handed_over.__name__]
    assert said == ["steps that are carried on do not hear that they are cancelled: no right to read carried.replies"]


def test_an_owner_of_an_older_release_ends_nothing(rig: Make, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not know the question, and refuses it."""
    refused: list[str] = []

    def old(queries: Queries, command: c.Command, monotonic: float) -> None:
        if isinstance(command.body, c.QueryWorkflow) and command.body.kind == KIND:
            refused.append(command.id)
            queries._refuse(command, "bad_request", f"unknown query {KIND!r}")
            return
        answer(queries, command, monotonic)

    answer = Queries._answer
    monkeypatch.setattr(Queries, "_answer", old)
    one = Moved(rig(script.app), script, "told")
    until(lambda: len(refused) > 2)
    one.through("told")


def test_answers_to_others_and_what_is_no_answer_end_nothing(rig: Make, script: Script) -> None:
    one = Moved(rig(script.app), script, "told")
    said = Payload(data=b'{"over":true,"cancelled":true}')
    (token,) = one.old.executor.running()
    for named in (token, f"{token}/{KIND}/another/1", ""):
        one.old._carrier._heard(one.rig.codec.encode(Reply(named, RUN, "", "answered", result=said)))
    for value in (b"", b"\x00", b"\xc3\x01"):
        one.old._carrier._heard(value)
    assert script.ended == []
    one.through("told")


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b'{"attempt":1}', b'{"attempt":"x","window_ms":1}', b"{" * 9_999]
)
def test_a_question_that_says_nothing_renews_nothing(rig: Make, script: Script, data: bytes) -> None:
    one = rig(script.app)
    one.engine()
    one.start(RUN, script.run, "told")
    until(lambda: script.began == ["told"])
    (answer,) = one.answers(one.send(RUN, c.QueryWorkflow(KIND, "", "told:1", Payload(data=data))))
    assert answer.result.data == b'{"over":true,"cancelled":false}'
    script.open.set()
    assert one.result(RUN) == b'"told"'


def test_no_question_opens_a_window_for_ever() -> None:
    clock = SkippingClock()
    renewals = Renewals(clock)
    token = ids.step_token("r", "s:1", 1)

    def asks(window_ms: object) -> float:
        data = b'{"attempt":1,"window_ms":%s}' % str(window_ms).encode()
        renewals.heard(c.QueryWorkflow(KIND, "r", "s:1", Payload(data=data)))
        return renewals.left_s(token)

    assert asks(-1) == asks("null") == asks("1e999") == 0
    assert 0 < asks(1_000) <= 1
    assert asks(10**15) <= MOST_MS / 1000
    assert asks(1_000) > 1, "the longest one counts"
    renewals.heard(c.QueryWorkflow("describe", "r", "s:1"))
    clock.skip(MOST_MS / 1000)
    assert renewals.left_s(token) == 0
