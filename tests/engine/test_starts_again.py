"""A start that comes again after its answer was forgotten: the same start, while the run that it began is in the state.

On either side of the horizon of answers (14 days), and of the run's retention (30 days).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.calendars import Interval, ScheduleSpec
from orchestrator.core.rows import DEDUP, RUNS
from orchestrator.core.schedules import PREFIX, ScheduleAction
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload
from orchestrator.sdk.workflow import Workflow
from tests.engine.rig import Rig
from tests.engine.test_retention import Bench

DAY_MS = 86_400_000
SIDES = pytest.mark.parametrize("days", [13, 15])

app = Orchestrator("again")
go = app.signal("go", int)


@app.step
async def double(x: int) -> int:
    return 2 * x


@app.workflow
async def doubles(x: int) -> int:
    return await double(x)


@app.workflow
async def waits() -> int:
    return await go.wait()


@app.workflow
async def has_child() -> int:
    return await doubles.options(id="child", close_policy="abandon")(4) + await go.wait()


@app.entity
@dataclass
class Counter:
    """It counts its calls."""

    calls: int = 0

    @app.handler
    async def add(self, x: int) -> int:
        self.calls += x
        return self.calls


@pytest.fixture
def bench(rig: Callable[[Orchestrator], Rig]) -> Bench:
    return Bench(rig(app))


def _start(code: Workflow[..., int], *args: int, **options: str) -> c.StartWorkflow:
    arguments = code.code.signature.bind(args, {})
    return c.StartWorkflow(code.code.workflow_type, arguments, **options)  # type: ignore[arg-type]


def _later(bench: Bench, days: float) -> None:
    """So many days pass, and what is to be forgotten at their end is forgotten."""
    bench.skip(days)
    bench.skip(0)


def _again(bench: Bench, workflow: str, body: c.TopicCommand, command_id: str) -> Reply:
    """The answer to a command that was answered once before."""
    before = len(bench.rig.answers(command_id))
    bench.rig.send(workflow, body, command_id)
    answers = bench.rig.answers(command_id, before + 1)
    assert len(answers) == before + 1
    return answers[-1]


def _begun(bench: Bench, workflow: str = "w") -> list[str]:
    return [one.run_id for one in bench.rig.events(workflow) if isinstance(one.body, e.RunStarted)]


@SIDES
def test_a_start_sent_again_is_the_same_start_while_its_run_is_kept(bench: Bench, days: float) -> None:
    one, body = bench.rig, _start(doubles, 4)
    first = one.ask("w", body, "once")
    assert one.result("w") == b"8"
    _later(bench, days)
    again = _again(bench, "w", body, "once")
    assert (again.outcome, again.run_id) == ("accepted", first.run_id)
    assert one.result("w") == b"8"
    assert _begun(bench) == [first.run_id]
    assert len(one.bodies(e.StepCompleted, "w")) == 1
    # What it says now is remembered as any answer is.
    assert _again(bench, "w", body, "once") == again


def test_a_start_sent_again_after_its_run_was_purged_is_a_new_one(bench: Bench) -> None:
    one, body = bench.rig, _start(doubles, 4)
    one.accepted("w", body, "once")
    one.result("w")
    _later(bench, 31)
    one.wait_for(e.RunPurged, "w")
    bench.until_gone(RUNS)
    bench.until_gone(DEDUP)
    assert _again(bench, "w", body, "once").code == "RunStarted"
    assert one.result("w") == b"8"
    assert len(_begun(bench)) == 2


def test_a_start_sent_again_says_its_run_although_another_one_is_open(bench: Bench) -> None:
    one = bench.rig
    body = _start(doubles, 4, conflict="terminate_existing")
    first = one.ask("w", body, "once")
    one.result("w")
    _later(bench, 15)
    one.start("w", waits)
    again = _again(bench, "w", body, "once")
    assert (again.outcome, again.run_id) == ("accepted", first.run_id)
    assert one.bodies(e.RunTerminated, "w") == []
    one.signal("w", "go", b"1")
    assert one.result("w") == b"1"


@SIDES
def test_a_start_with_a_signal_sent_again_signals_nobody(bench: Bench, days: float) -> None:
    one = bench.rig
    body = _start(waits)._replace(signal="go", signal_payload=Payload(data=b"3"))
    first = one.ask("w", body, "once")
    assert one.result("w") == b"3"
    _later(bench, days)
    one.start("w", waits)
    assert _again(bench, "w", body, "once").run_id == first.run_id
    assert len(one.bodies(e.SignalReceived, "w")) == 1


@SIDES
def test_a_call_of_an_entity_sent_again_is_not_made_twice(bench: Bench, days: float) -> None:
    one, body = bench.rig, _start(Counter.add, 5, conflict="queue")
    first = one.ask("w", body, "once")
    assert one.result("w") == b"5"
    _later(bench, days)
    again = _again(bench, "w", body, "once")
    assert (again.outcome, again.run_id) == ("accepted", first.run_id)
    assert _begun(bench) == [first.run_id]
    one.accepted("w", _start(Counter.add, 1, conflict="queue"))
    assert one.result("w") == b"6"


@SIDES
def test_a_child_s_start_sent_again_starts_no_second_run(bench: Bench, days: float) -> None:
    one = bench.rig
    one.start("w", has_child)
    assert one.result("child") == b"8"
    one.wait_for(e.ChildCompleted, "w")
    [sent] = [
        raw
        for records in one.records("commands").values()
        for raw in records
        if isinstance(one.codec.decode_command(raw.value).body, c.StartWorkflow) and raw.key == b"child"
    ]
    _later(bench, days)
    one.send_raw(sent.key, sent.value)
    bench.skip(0)
    assert len(_begun(bench, "child")) == 1
    one.signal("w", "go", b"1")
    assert one.result("w") == b"9"


@SIDES
def test_a_fork_sent_again_is_the_same_fork(bench: Bench, days: float) -> None:
    one, body = bench.rig, c.ForkWorkflow(step="double")
    one.start("w", doubles, 4)
    one.result("w")
    forked = one.ask("w", body, "once")
    one.result("w")
    _later(bench, days)
    again = _again(bench, "w", body, "once")
    assert (again.outcome, again.run_id) == ("accepted", forked.run_id)
    assert len(_begun(bench)) == 2


@SIDES
def test_times_back_filled_again_start_no_second_run_while_the_first_is_kept(bench: Bench, days: float) -> None:
    one, name = bench.rig, f"{PREFIX}nightly"
    action = ScheduleAction(doubles.code.workflow_type, doubles.code.signature.bind((4,), {}))
    one.accepted(name, c.CreateSchedule(ScheduleSpec(intervals=(Interval(DAY_MS),)), action, paused=True))
    fill = c.BackfillSchedule(DAY_MS, 2 * DAY_MS)
    runs = [f"nightly-1970010{day}T000000Z" for day in (2, 3)]
    one.accepted(name, fill)
    one.wait_for(e.ScheduleRunEnded, name, 2)
    _later(bench, days)
    one.accepted(name, fill)
    ended = one.wait_for(e.ScheduleRunEnded, name, 4)
    assert [end.outcome for end in ended] == ["completed"] * 2 + ["rejected"] * 2
    assert [len(_begun(bench, run)) for run in runs] == [1, 1]
    shown = json.loads(one.ask(name, c.QueryWorkflow("schedule")).result.data)
    assert shown["running"] == []


def test_times_back_filled_after_their_runs_were_purged_start_new_ones(bench: Bench) -> None:
    one, name, run = bench.rig, f"{PREFIX}nightly", "nightly-19700102T000000Z"
    action = ScheduleAction(doubles.code.workflow_type, doubles.code.signature.bind((4,), {}))
    one.accepted(name, c.CreateSchedule(ScheduleSpec(intervals=(Interval(DAY_MS),)), action, paused=True))
    fill = c.BackfillSchedule(DAY_MS, DAY_MS)
    one.accepted(name, fill)
    one.wait_for(e.ScheduleRunEnded, name)
    _later(bench, 31)
    bench.until_gone(RUNS, run)
    one.accepted(name, fill)
    ended = one.wait_for(e.ScheduleRunEnded, name, 2)
    assert [end.outcome for end in ended] == ["completed"] * 2
    assert len(_begun(bench, run)) == 2
