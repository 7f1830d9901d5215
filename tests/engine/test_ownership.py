"""Partitions change hands: what ran goes on, what was ambiguous is called so, nothing is repeated without need."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from orchestrator import Orchestrator, StepFailed, failpoints
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.engine import announcing
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Out
from tests.engine.rig import Rig, kill, until

pytestmark = pytest.mark.slow

Make = Callable[[Orchestrator], Rig]


class Gate:
    """Steps that run until the test lets go, counted."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.began: list[str] = []
        app = self.app = Orchestrator("owned")

        def hold(name: str) -> str:
            self.began.append(name)
            self.open.wait(20)
            return name

        safe = app.step(name="safe")(hold)
        fails = app.step(name="fails", on_crash="fail")(hold)
        parks = app.step(name="parks", on_crash="park")(hold)

        @app.workflow(name="run-safe")
        async def run_safe(name: str) -> str:
            return await safe(name)

        @app.workflow(name="run-fails")
        async def run_fails(name: str) -> str:
            try:
                return await fails(name)
            except StepFailed as error:
                return f"{type(error).__name__}: {error}"

        @app.workflow(name="run-parks")
        async def run_parks(name: str) -> str:
            return await parks(name)

        self.safe, self.fails, self.parks = run_safe, run_fails, run_parks

    def wait(self, count: int) -> None:
        """Until so many attempts began."""
        deadline = time.monotonic() + 15
        while len(self.began) < count:
            assert time.monotonic() < deadline, self.began
            time.sleep(0.005)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    failpoints.install("")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
class TestAfterADeath:
    """The owner is gone without a word."""

    def test_a_safe_step_runs_again(self, rig: Make, gate: Gate) -> None:
        one = rig(gate.app)
        engine = one.engine()
        one.start("w", gate.safe, "a")
        gate.wait(1)
        kill(engine)
        one.engine()
        gate.wait(2)
        gate.open.set()
        assert one.result("w") == b'"a"'
        assert len(one.bodies(e.StepCompleted, "w")) == 1

    def test_a_fail_step_is_interrupted_after_its_window_and_never_runs_again(self, rig: Make, gate: Gate) -> None:
        one = rig(gate.app)
        engine = one.engine(EngineOptions(start_within_ms=300))
        one.start("w", gate.fails, "a")
        gate.wait(1)
        kill(engine)
        started = one.bodies(e.StepStarted, "w")[0]
        assert (started.instance, started.start_within_ms) == (engine.options.instance, 300)
        one.engine()
        assert b"StepFailed" in one.result("w")
        assert [body.failure.type for body in one.bodies(e.StepFailed, "w")] == ["StepInterrupted"]
        events = one.events("w")
        interrupted = next(event for event in events if isinstance(event.body, e.StepInterrupted))
        claims = [batch.footer for batch in one.batches() if batch.is_claim]
        restored = max(record.event.claim_no for record in claims)
        assert interrupted.claim_no == restored
        assert gate.began == ["a"]

    def test_a_park_step_waits_for_a_person(self, rig: Make, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
        one = rig(gate.app)
        engine = one.engine(EngineOptions(start_within_ms=100))
        one.start("w", gate.parks, "a")
        gate.wait(1)
        kill(engine)
        one.engine()
        one.wait_for(e.StepParked, "w")
        step = one.bodies(e.StepParked, "w")[0].step
        one.accepted("w", c.ResolveStep("", step, "complete", Payload(data=b'"looked it up"')))
        assert one.result("w") == b'"looked it up"'
        assert gate.began == ["a"]
        (said,) = [record.getMessage() for record in caplog.records if record.name == announcing.__name__]
        assert said.startswith(f"step {step} of w is parked: StepInterrupted: ")
        assert said.endswith("; end it or let it go on: orchestrator step complete|fail|retry w " + step)

    def test_a_park_step_may_be_tried_again_by_a_person(self, rig: Make, gate: Gate) -> None:
        one = rig(gate.app)
        engine = one.engine(EngineOptions(start_within_ms=100))
        one.start("w", gate.parks, "a")
        gate.wait(1)
        kill(engine)
        one.engine()
        step = one.wait_for(e.StepParked, "w")[0].step
        one.accepted("w", c.ResolveStep("", step, "retry"))
        gate.wait(2)
        gate.open.set()
        assert one.result("w") == b'"a"'

    def test_the_successor_is_careful(self, rig: Make, gate: Gate) -> None:
        one = rig(gate.app)
        engine = one.engine()
        one.start("w", gate.safe, "a")
        gate.wait(1)
        kill(engine)
        gate.open.set()
        one.engine()
        assert one.result("w") == b'"a"'
        assert [body.attempt for body in one.bodies(e.TurnAttempted)] == [1]


def test_a_safe_step_is_not_repeated_when_it_ends_within_the_grace_time(rig: Make, gate: Gate) -> None:
    one = rig(gate.app)
    first = one.engine()
    for number in range(3):
        one.start(f"w{number}", gate.safe, str(number))
    one.start("guarded", gate.fails, "g")
    gate.wait(4)
    leaving = threading.Thread(target=first.stop, args=(15.0,))
    leaving.start()
    one.wait_for(e.StepHandedOver, None, 4)
    one.engine(stores={})
    one.ask("w0", c.QueryWorkflow("describe"))
    gate.open.set()
    assert [one.result(f"w{number}") for number in range(3)] == [b'"0"', b'"1"', b'"2"']
    assert one.result("guarded") == b'"g"'
    leaving.join()
    assert sorted(gate.began) == ["0", "1", "2", "g"]
    assert one.bodies(e.StepInterrupted) == []
    assert one.bodies(e.TurnAttempted) == [], "the release was clean: nobody has to be careful"


def test_a_clean_release_is_recorded(rig: Make, gate: Gate) -> None:
    one = rig(gate.app)
    engine = one.engine()
    one.start("w", gate.safe, "a")
    gate.open.set()
    one.result("w")
    engine.stop(1.0)
    assert {body.instance for body in one.bodies(e.PartitionReleased)} == {engine.options.instance}


def test_who_waits_for_a_result_is_told_to_ask_the_next_owner(rig: Make, gate: Gate) -> None:
    one = rig(gate.app)
    engine = one.engine()
    one.start("w", gate.safe, "a")
    question = one.send("w", c.QueryWorkflow("result", wait_ms=20_000))
    while not any(partition.awaited for partition in engine.partitions.values()):
        time.sleep(0.01)
    engine.stop(0.0)
    (answer,) = one.answers(question)
    assert (answer.outcome, answer.code) == ("not_ready", "running")
    gate.open.set()


def test_a_step_whose_outcome_waits_is_not_begun_again_by_a_new_claim(rig: Make, gate: Gate) -> None:
    """The commit that would take the outcome fails: the same process claims again and takes it from its queue."""
    one = rig(gate.app)
    one.engine()
    one.start("w", gate.safe, "a")
    gate.wait(1)
    verdicts = iter(["lost", "lost"])
    one.cluster.on_commit = lambda name: next(verdicts, "")
    gate.open.set()
    assert one.result("w") == b'"a"'
    assert next(verdicts, None) is None, "no commit failed: the test shows nothing"
    assert gate.began == ["a"]


def test_a_running_step_is_kept_through_a_new_claim(rig: Make, gate: Gate) -> None:
    one = rig(gate.app)
    one.engine()
    workflows = [name for n in range(40) if partition_of((name := f"w{n}").encode(), 2) == 0][:4]
    one.start(workflows[0], gate.safe, "a")
    one.start(workflows[1], gate.fails, "g")
    gate.wait(2)
    failing = iter(["unknown", "lost"])
    one.cluster.on_commit = lambda name: next(failing, "") if name.startswith("owned.0") else ""
    one.start(workflows[2], gate.safe, "b")
    one.start(workflows[3], gate.safe, "c")
    gate.wait(4)
    gate.open.set()
    assert [one.result(name) for name in workflows] == [b'"a"', b'"g"', b'"b"', b'"c"']
    assert sorted(gate.began) == ["a", "b", "c", "g"]
    assert one.bodies(e.StepInterrupted) == []


COMMIT_PATH = ("K1", "K2", "K3", "K6", "K7", "K8", "gate", "K9", "K10", "K11", "K12", "K13", "K21", "K23")


@pytest.mark.parametrize("point", COMMIT_PATH)
def test_an_error_anywhere_in_the_commit_path_loses_nothing(
    rig: Make, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fail point ends the claim where it stands; what the log says is what counts."""
    from orchestrator.log.ports import Fenced

    class Fault(Fenced):
        """A fail point's, as the broker's refusal."""

    monkeypatch.setattr(failpoints, "InjectedFault", Fault)
    app = Orchestrator("points")

    @app.step(name="add")
    async def add(x: int) -> int:
        return x + 1

    @app.workflow(name="adds")
    async def adds(x: int) -> int:
        for _ in range(4):
            x = await add(x)
        return x

    one = rig(app)
    one.engine()
    one.start("warm", adds, 0)
    one.result("warm")
    # K21 is reached by a claim alone: another point makes one necessary.
    plan = "K9:2:raise,K21:1:raise,K21:2:raise" if point == "K21" else f"{point}:2:raise,{point}:4:raise"
    failpoints.install(plan)
    for number in range(3):
        one.start(f"w{number}", adds, number)
    assert [one.result(f"w{number}") for number in range(3)] == [b"4", b"5", b"6"]
    failpoints.install("")
    assert len([batch for batch in one.batches() if batch.is_claim]) > 2
    for number in range(3):
        assert len(one.bodies(e.StepCompleted, f"w{number}")) == 4


def test_two_engines_share_the_partitions_and_pass_them_on(rig: Callable[..., Rig], gate: Gate) -> None:
    one = rig(gate.app, 4)
    gate.open.set()
    first = one.engine()
    names = [f"w{number}" for number in range(12)]
    for name in names[:4]:
        one.start(name, gate.safe, name)
    second = one.engine()
    _owned(first, second)
    for name in names[4:8]:
        one.start(name, gate.safe, name)
    first.stop(2.0)
    for name in names[8:]:
        one.start(name, gate.safe, name)
    assert [one.result(name) for name in names] == [b'"%s"' % name.encode() for name in names]
    assert sorted(gate.began) == sorted(names)
    assert len(second.partitions) == 4
    assert len(one.bodies(e.StepCompleted)) == len(one.bodies(e.StepScheduled)) == 12


def _owned(*engines: Engine) -> None:
    """Wait until every engine owns its share."""
    deadline = time.monotonic() + 15
    while True:
        owned = [[n for n, p in engine.partitions.items() if p.state is State.OWNED] for engine in engines]
        if all(owned) and sum(map(len, owned)) == 4:
            return
        assert time.monotonic() < deadline, owned
        time.sleep(0.01)


def steal(one: Rig, caplog: pytest.LogCaptureFixture) -> int:
    """Another process claims partition 0, and its owner has heard of it. Returns the number of the owner's claim."""
    thief = one.site.log("owned").lanes(0)
    thief.init()
    claim = next(batch.footer.event for batch in one.batches() if batch.is_claim and batch.footer.event.claim_no == 1)
    body = claim.body._replace(instance="another/1/engine", nonce="n2")  # type: ignore[union-attr]
    record = one.codec.seal(claim._replace(body=body, claim_no=claim.claim_no + 1))
    thief.begin([(record.key, record.value)])
    thief.commit()
    deadline = time.monotonic() + 10
    while "another/1/engine" not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.01)
    return claim.claim_no


def test_a_static_owner_that_lost_its_partition_is_not_ready(
    rig: Make, gate: Gate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(gate.app)
    engine = one.engine(EngineOptions(claims_back=False))
    # A static map takes nothing away and gives nothing back.
    monkeypatch.setattr(engine.log.membership(), "released", lambda number: None)
    gate.open.set()
    one.start("w", gate.safe, "a")
    one.result("w")
    while not engine.health().ready:
        time.sleep(0.01)
    steal(one, caplog)
    while engine.health().partitions != {0: "stopped", 1: "owned"}:
        time.sleep(0.01)
    assert not engine.health().ready


def test_a_fenced_owner_stops_says_who_claimed_and_comes_back_by_a_claim_alone(
    rig: Make, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig(gate.app)
    one.engine()
    gate.open.set()
    one.start("w", gate.safe, "a")
    one.result("w")
    lost = steal(one, caplog)
    # The group still gives the partition to this process: it claims anew, above the other's number.
    names = [name for n in range(40) if partition_of((name := f"v{n}").encode(), 2) == 0][:3]
    for name in names:
        one.start(name, gate.safe, name)
        one.result(name)
    claims = [batch.footer.event.claim_no for batch in one.batches() if batch.is_claim and batch.offset]
    assert max(claims) >= lost + 2
    assert {event.claim_no for event in one.events() if event.workflow_id in names} == {max(claims)}


def test_a_gap_in_the_log_parks_the_partition_and_names_the_offset(rig: Make, gate: Gate) -> None:
    one = rig(gate.app)
    engine = one.engine()
    gate.open.set()
    one.start("w", gate.safe, "a")
    one.result("w")
    engine.stop(1.0)
    event = one.events()[0]
    stray = one.codec.seal(event._replace(batch_index=3))
    number = partition_of(b"w", 2)
    one.cluster.send(Out("owned.events", number, stray.key, stray.value))
    parked = one.engine(stores={})
    deadline = time.monotonic() + 10
    while number not in parked.partitions or parked.partitions[number].state is not State.PARKED:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert f"owned.events/{number} offset" in parked.partitions[number].problem


def test_the_directory_of_a_log_that_was_replaced_is_never_continued(rig: Make, gate: Gate) -> None:
    one = rig(gate.app)
    engine = one.engine()
    gate.open.set()
    one.start("w", gate.safe, "a")
    one.result("w")
    engine.stop(1.0)
    for name in ("events", "commands"):
        one.cluster.delete(f"owned.{name}")
        one.cluster.create(f"owned.{name}", 2)
    parked = one.engine()
    number = partition_of(b"w", 2)
    deadline = time.monotonic() + 10
    while number not in parked.partitions or parked.partitions[number].state is not State.PARKED:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "topic" in parked.partitions[number].problem


def thread_of(engine: Engine, number: int) -> threading.Thread | None:
    """The thread of a partition, if the engine has it."""
    partition = engine.partitions.get(number)
    return partition._thread if partition is not None else None


@contextlib.contextmanager
def standing(point: str, is_meant: Callable[[threading.Thread], bool]) -> Iterator[threading.Event]:
    """Threads that are meant stand still at a point until the block ends; the event tells that one does."""
    stands, go_on = threading.Event(), threading.Event()

    def hook(at: str) -> None:
        if at == point and is_meant(threading.current_thread()):
            stands.set()
            assert go_on.wait(20)

    failpoints.watch(hook)
    try:
        yield stands
    finally:
        failpoints.watch(None)
        go_on.set()


def asked_to_leave(engine: Engine) -> bool:
    """Whether each of its partitions has heard that it is to be released."""
    return all(partition.inbox.request.release for partition in list(engine.partitions.values()))


@pytest.mark.parametrize("kind", ["safe", "fails"])
def test_a_step_that_ends_while_its_engine_is_about_to_hand_over_is_not_repeated(
    rig: Make, gate: Gate, kind: str
) -> None:
    """The release is asked for, the thread is still at a batch, and the outcome comes in between."""
    one = rig(gate.app)
    first = one.engine()
    one.start("w", getattr(gate, kind), "a")
    gate.wait(1)
    owner = thread_of(first, partition_of(b"w", one.site.partitions))
    with standing("K9", lambda thread: thread is owner) as stands:
        one.send("w", c.SignalWorkflow("tick"))
        assert stands.wait(20)
        leaving = threading.Thread(target=first.stop, args=(3_600.0,))
        leaving.start()
        until(lambda: asked_to_leave(first))
        gate.open.set()
        until(lambda: not first.executor.running())
    one.engine(stores={})
    assert one.result("w") == b'"a"'
    leaving.join()
    assert gate.began == ["a"]
    assert one.bodies(e.StepInterrupted) == []


@pytest.mark.parametrize("kind", ["safe", "fails"])
def test_an_outcome_that_was_sent_is_waited_for_by_the_engine_that_gets_its_partition_back(
    rig: Make, gate: Gate, kind: str
) -> None:
    """The step ended while another had the partition, for so short a time that it read no command."""
    one = rig(gate.app)
    first = one.engine()
    names = [next(f"w{n}" for n in range(99) if partition_of(f"w{n}".encode(), 2) == number) for number in range(2)]
    for name in names:
        one.start(name, getattr(gate, kind), name)
    gate.wait(2)
    with standing("K0", lambda thread: thread not in [thread_of(first, number) for number in range(2)]):
        second = one.engine(stores={})
        one.wait_for(e.StepHandedOver, None, 1)
        gate.open.set()
        until(lambda: not first.executor.running())
        until(lambda: len(second.partitions) == 1)
        leaving = threading.Thread(target=second.stop, args=(0.0,))
        leaving.start()
        until(lambda: asked_to_leave(second))
    leaving.join()
    assert [one.result(name) for name in names] == [b'"%s"' % name.encode() for name in names]
    assert sorted(gate.began) == sorted(names)
    assert one.bodies(e.StepInterrupted) == []


def test_an_owner_that_has_to_go_before_it_took_a_command_takes_those_that_were_there(rig: Make, gate: Gate) -> None:
    one = rig(gate.app)
    gate.open.set()
    one.send("w", c.StartWorkflow("run-safe", gate.safe.code.signature.bind(("a",), {})))
    with standing("K22", lambda thread: True) as claimed:
        engine = one.engine()
        assert claimed.wait(20)
        leaving = threading.Thread(target=engine.stop, args=(20.0,))
        leaving.start()
        until(lambda: asked_to_leave(engine))
    leaving.join()
    assert [body.workflow_type for body in one.bodies(e.RunStarted)] == ["run-safe"]
