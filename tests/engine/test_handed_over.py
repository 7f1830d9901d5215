"""Steps whose partition moved while they ran: who carries one on asks, and the partition's owner waits for it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator, StepFailed
from orchestrator.codec.records import Codec
from orchestrator.codec.signatures import CommandSigner
from orchestrator.codec.signing import PublicKeys, Signer, generate, public_path
from orchestrator.core import commands as c, events as e
from orchestrator.core.rows import HISTORY, STEPS, StepRow, history_key, step_key
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload, StepOptions
from orchestrator.engine import handed_over
from orchestrator.engine.handed_over import KIND, MOST_MS, Attempt, Renewals
from orchestrator.engine.options import EngineOptions, SignatureOptions
from orchestrator.engine.partition import State
from orchestrator.engine.queries import Queries
from orchestrator.engine.run import Engine
from orchestrator.errors import KafkaUnavailable
from orchestrator.log.partitioner import partition_of
from orchestrator.store.memory_store import MemoryStore
from orchestrator.testing.clock import SkippingClock
from orchestrator.testing.memory_log import MemoryLog
from orchestrator.worker.threads import ThreadExecutor
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
        waits = app.step(name="waits", cancellation="wait")(listen)
        timed = app.step(name="timed", start_to_close=timedelta(seconds=3 * WINDOW_S))(listen)

        @app.workflow(name="run")
        async def run(kind: str) -> str:
            try:
                done = await {"retry": retry, "fail": fail, "told": told, "waits": waits, "timed": timed}[kind](kind)
                if done == "by hand":
                    await asyncio.sleep(3_600)
                return done
            except StepFailed as error:
                return f"failed: {error}"

        self.run = run


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.open.set()


def options(**more: Any) -> EngineOptions:
    """Of one engine: each has a name of its own."""
    return EngineOptions(hand_over_ms=int(WINDOW_S * 1000), **more)


class Moved:
    """A run whose step went on in `old` when its partition went to `new`, whose clock is the test's."""

    def __init__(self, rig: Rig, script: Script, kind: str, **more: Any) -> None:
        self.rig, self.script, self._more = rig, script, more
        self.old = rig.engine(options(**more), stores={})
        rig.start(RUN, script.run, kind)
        until(lambda: script.began == [kind])
        self.clock = SkippingClock()
        self.new = self.add()
        rig.wait_for(e.StepHandedOver, RUN)
        self.owned_by(self.new)

    def add(self) -> Engine:
        """One more engine."""
        return self.rig.engine(options(**self._more), stores={}, clock=self.clock)

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


def answer(one: Moved, token: str, **about: Any) -> None:
    """Somebody's answer to the engine that carries the step on: it is over."""
    said = Payload(data=json.dumps({"over": True, "cancelled": False, "partition": MOVES, **about}).encode())
    reply = Reply(f"{token}{one.old._carrier._mark}1", RUN, "", "answered", result=said)
    one.old._carrier._heard(one.rig.codec.encode(reply))


def deafen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine hears an answer."""
    opened = MemoryLog.replies
    monkeypatch.setattr(MemoryLog, "replies", lambda log, sink: opened(log, lambda value: None))


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


def test_a_step_whose_partition_comes_back_before_the_answer_is_told_all_the_same(
    rig: Make, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another had it the run ended, and no answer was heard."""
    deafen(monkeypatch)
    one = Moved(rig(script.app), script, "told")
    one.asks(one.new)
    one.rig.accepted(RUN, c.TerminateWorkflow())
    one.new.stop(1.0)
    until(lambda: script.ended == ["told"])


def test_a_step_whose_outcome_another_owner_recorded_is_told_when_its_partition_comes_back(
    rig: Make, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run goes on."""
    deafen(monkeypatch)
    one = Moved(rig(script.app), script, "told")
    step = next(iter(one.old._shared.origins.values())).attempt.step
    one.rig.accepted(RUN, c.ResolveStep("", step, "complete", Payload(data=b'"by hand"')))
    one.new.stop(1.0)
    until(lambda: script.ended == ["told"])


def test_what_was_over_and_is_begun_again_is_reported(rig: Make, script: Script) -> None:
    """A log that was cut says so, and has the step begin anew."""
    one = Moved(rig(script.app), script, "told")
    (token,) = one.old.executor.running()
    answer(one, token, claim_no=one.old._shared.origins[token].claim_no + 1)
    until(lambda: script.ended == ["told"])
    one.new.stop(1.0)
    until(lambda: script.began == ["told"] * 2)
    script.open.set()
    assert one.rig.result(RUN) == b'"told"'


def test_what_did_not_land_is_not_over() -> None:
    """A step that this log has not scheduled yet, an attempt that it has not begun."""
    store, place = MemoryStore(Codec()), (STEPS, step_key("w", "r", "0:1"))
    row = StepRow("s", "scheduled", 2, 7, 0, StepOptions(), token="r/0:1/2")
    scheduled = Codec().seal(e.Event("w", "r", 7, e.StepScheduled(1, "0", 1, "s", "f:1", Payload())))

    def over(attempt: int, **changes: Any) -> bool:
        store.write({place: row._replace(**changes)}, 0)
        return Attempt("w", "r", "0:1", attempt, 7).is_over(store)

    assert [over(number) for number in (1, 2, 3)] == [True, False, False]
    assert all(over(2, state=state) for state in ("backoff", "interrupted", "parked"))
    assert not over(2, state="limited"), "its slot was granted, and that did not land"
    store.write({place: None}, 0)
    assert not Attempt("w", "r", "0:1", 2, 7).is_over(store), "nothing of it is there"
    store.write({(HISTORY, history_key("w", "r", 7)): scheduled}, 0)
    assert Attempt("w", "r", "0:1", 2, 7).is_over(store)
    for other in (Attempt("w", "r", "0:1", 2, 8), Attempt("w", "r", "0:1", 2, 0), Attempt("w", "r", "0:2", 1, 7)):
        assert not other.is_over(store)


def test_a_parked_partition_is_asked_nothing(rig: Make, script: Script) -> None:
    """It is this process's own, and nobody would answer."""
    one = rig(script.app)
    engine = one.engine(options(), stores={})
    one.start(RUN, script.run, "told")
    until(lambda: script.began == ["told"])
    engine.partitions[MOVES].inbox.take_down("its log was replaced")
    until(lambda: engine.partitions[MOVES].state is State.PARKED)
    assert engine._carrier._ask() == 0
    script.open.set()


def test_a_cancellation_that_is_waited_for_is_heard_by_a_step_whose_partition_came_back(
    rig: Make, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    deafen(monkeypatch)
    one = Moved(rig(script.app), script, "waits")
    one.asks(one.new)
    one.rig.accepted(RUN, c.CancelWorkflow())
    one.rig.wait_for(e.StepCancelRequested, RUN)
    one.new.stop(1.0)
    assert one.rig.outcome(RUN).code == "cancelled"
    assert script.ended == ["waits"]


def test_a_cancellation_that_is_waited_for_is_heard(rig: Make, script: Script) -> None:
    one = Moved(rig(script.app), script, "waits")
    one.rig.accepted(RUN, c.CancelWorkflow())
    assert one.rig.outcome(RUN).code == "cancelled"
    assert (script.began, script.ended) == (["waits"], ["waits"])


def test_what_waits_for_a_slot_is_begun_by_the_new_owner(rig: Make, script: Script) -> None:
    """It is not handed over: the old engine's queue may be long, and the new one idles."""

    def narrow(code: Orchestrator, options: Any, report: Any) -> ThreadExecutor:
        return ThreadExecutor(code, replace(options, slots=1), report)

    one = rig(script.app)
    names = [f"w{n}" for n in range(99) if partition_of(f"w{n}".encode(), 2) == MOVES][:3]
    old = one.engine(options(), stores={}, executor=narrow)
    for number, name in enumerate(names):
        one.start(name, script.run, "retry")
        until(lambda count=number + 1: len(old.executor.running()) == count)  # type: ignore[misc]
    assert script.began == ["retry"]
    one.engine(options(), stores={})
    until(lambda: script.began == ["retry"] * 3)
    assert len(old.executor.running()) == len(one.bodies(e.StepHandedOver)) == 1
    script.open.set()
    assert [one.result(name) for name in names] == [b'"retry"'] * 3
    assert script.began == ["retry"] * 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_owner_of_before_that_wakes_ends_nothing(rig: Make, script: Script) -> None:
    """It stood still since before the step began: it has no row of it, and answers that it is over."""
    one = Moved(rig(script.app), script, "told")
    (token,) = one.old.executor.running()
    claimed = one.old._shared.origins[token].claim_no
    for claim_no in (0, claimed - 1, claimed, "x", None):
        answer(one, token, claim_no=claim_no)
    answer(one, token, claim_no=claimed + 1, partition=1 - MOVES)
    time.sleep(0.05)
    assert script.ended == []
    answer(one, token, claim_no=claimed + 1)
    until(lambda: script.ended == ["told"])


def test_what_is_over_is_not_reported(rig: Make, script: Script) -> None:
    """Its outcome would be refused, on record."""
    one = Moved(rig(script.app), script, "told")
    one.rig.accepted(RUN, c.TerminateWorkflow())
    until(lambda: script.ended == ["told"])
    until(lambda: not one.old.executor.running())
    one.rig.start("after", script.run, "retry")
    script.open.set()
    assert one.rig.result("after") == b'"retry"'
    assert one.rig.bodies(e.CommandRejected) == []


def test_no_reader_of_answers_holds_up_the_questions(
    rig: Make, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take as long as a broker likes."""
    opening, may = threading.Event(), threading.Event()
    opened = MemoryLog.replies

    def slow(log: MemoryLog, sink: Any) -> Any:
        opening.set()
        assert may.wait(30)
        return opened(log, sink)

    monkeypatch.setattr(MemoryLog, "replies", slow)
    one = Moved(rig(script.app), script, "told")
    assert opening.wait(20)
    one.windows_pass(one.new, 2)
    may.set()
    one.rig.accepted(RUN, c.TerminateWorkflow())
    until(lambda: script.ended == ["told"])


def test_without_a_grace_time_it_is_still_asked_now_and_then(rig: Make, script: Script) -> None:
    one = rig(script.app)
    engine = one.engine(EngineOptions(hand_over_ms=0))
    asked = []
    engine._carrier._ask = lambda: asked.append(1) or 0  # type: ignore[method-assign, func-returns-value]
    time.sleep(0.5)
    assert len(asked) <= 10


def test_questions_are_signed_where_signatures_are_required(rig: Make, script: Script, tmp_path: Path) -> None:
    generate(tmp_path / "k.pem")
    signer, keys = Signer.load(tmp_path / "k.pem"), PublicKeys.load([public_path(tmp_path / "k.pem")])
    one = rig(script.app)
    one.sign = CommandSigner(script.app.name, signer)
    moved = Moved(one, script, "told", signatures=SignatureOptions(keys, signer, True))
    until(lambda: moved.renewed_s(moved.new) > 0)
    one.accepted(RUN, c.TerminateWorkflow())
    until(lambda: script.ended == ["told"])


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
    "data", [b"", b"null", b"[]", b'{"attempt":1}', b'{"attempt":"x","scheduled_seq":2,"window_ms":1}', b"{" * 9_999]
)
def test_a_question_that_says_nothing_renews_nothing(rig: Make, script: Script, data: bytes) -> None:
    one = rig(script.app)
    one.engine()
    one.start(RUN, script.run, "told")
    until(lambda: script.began == ["told"])
    (answer,) = one.answers(one.send(RUN, c.QueryWorkflow(KIND, "", "told:1", Payload(data=data))))
    said = json.loads(answer.result.data)
    assert (said["over"], said["cancelled"], said["partition"]) == (False, False, MOVES)
    script.open.set()
    assert one.result(RUN) == b'"told"'


def test_no_question_opens_a_window_for_ever_and_none_what_nobody_else_carries_on() -> None:
    clock = SkippingClock()
    renewals = Renewals(clock)
    row = StepRow("s", "handed_over", 1, 1, 0, StepOptions(), token="r/s:1/1")
    store = MemoryStore(Codec())

    def asks(window_ms: object, state: str = "handed_over", attempt: int = 1) -> float:
        store.write({(STEPS, step_key("w", "r", "s:1")): row._replace(state=state)}, 0)
        data = b'{"attempt":%d,"scheduled_seq":1,"window_ms":%s}' % (attempt, str(window_ms).encode())
        renewals.heard(store, c.Command("q", "w", c.QueryWorkflow(KIND, "r", "s:1", Payload(data=data))))
        return renewals.left_s(row.token)

    assert asks(-1) == asks("null") == asks("1e999") == 0
    assert asks(1_000, state="scheduled") == asks(1_000, state="backoff") == asks(1_000, attempt=2) == 0
    assert 0 < asks(1_000) <= 1
    assert asks(10**15) <= MOST_MS / 1000
    assert asks(1_000) > 1, "the longest one counts"
    clock.skip(MOST_MS / 1000)
    assert renewals.left_s(row.token) == 0
    assert asks(1_000) > 0
    renewals.drop(row.token)
    assert renewals.left_s(row.token) == 0
