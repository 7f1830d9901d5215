"""What an engine sent is known again for as long as the run that took it lives: its sender's partition may have stood
still for weeks before it sends what it sent once more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator import Orchestrator, continue_as_new, external_workflow
from orchestrator.core import commands as c, events as e
from orchestrator.core.rows import DEDUP
from orchestrator.testing.clock import SkippingClock
from tests.engine.rig import Rig
from tests.engine.test_retention import Bench, _content

app = Orchestrator("kept-answers")
go = app.signal("go", int)
end = app.signal("end", int)


@app.workflow
async def tells(to: str) -> None:
    external_workflow(to).signal(go, 1)


@app.workflow
async def listens() -> int:
    got = await go.wait()
    return got + await end.wait()


@app.workflow
async def goes_on(rounds: int) -> int:
    if rounds:
        await go.wait()
        continue_as_new(rounds - 1)
    return await end.wait()


@pytest.fixture
def bench(rig: Callable[[Orchestrator], Rig]) -> Bench:
    return Bench(rig(app))


def _later(bench: Bench, days: float) -> None:
    bench.skip(days)
    bench.skip(0)


def _send_again(bench: Bench, workflow: str = "w") -> None:
    """Send what an engine sent to a workflow once more, and wait until that was read."""
    one = bench.rig
    sent = {
        raw.value: raw.key
        for records in one.records("commands").values()
        for raw in records
        if raw.key == workflow.encode() and one.codec.decode_command(raw.value).actor.kind == "child"
    }
    assert sent
    for value, key in sent.items():
        one.send_raw(key, value)
    bench.skip(0)


def test_a_signal_that_a_run_sent_counts_once_however_late_it_is_sent_again(rig: Callable[[Orchestrator], Rig]) -> None:
    one = rig(app)
    bench = Bench(one)
    one.start("w", listens)
    one.start("teller", tells, "w")
    one.wait_for(e.SignalReceived, "w")
    for _ in range(4):
        _later(bench, 15)
        _send_again(bench)
    assert len(one.bodies(e.SignalReceived, "w")) == 1
    one.signal("w", "end", b"2")
    assert one.result("w") == b"3"
    # Behind the run's end, and the next time that its answers are looked at, nothing of them is left.
    _later(bench, 15)
    _later(bench, 15)
    bench.until_gone(DEDUP)


def test_answers_that_were_kept_are_kept_by_a_restore_too(rig: Callable[[Orchestrator], Rig]) -> None:
    one, clock = rig(app), SkippingClock()
    bench = Bench(one)
    bench.clock = clock
    one.engines.pop().stop(1.0)
    engine = one.engine(clock=clock)
    one.start("w", listens)
    one.start("teller", tells, "w")
    one.wait_for(e.SignalReceived, "w")
    for _ in range(2):
        _later(bench, 15)
    kept = bench.rows(DEDUP)
    assert len(kept) == 2, "the answer, and when it is looked at again"
    engine.stop(1.0)
    lived = {number: _content(store) for number, store in one.stores.items()}
    one.stores.clear()
    last = one.engine(clock=clock)
    _send_again(bench)
    last.stop(1.0)
    assert len(one.bodies(e.SignalReceived, "w")) == 1
    assert bench.rows(DEDUP) == kept
    for number, store in one.stores.items():
        restored = _content(store)
        # Ticks are answered after the restore, on "nobody".
        lived[number][DEDUP] = [row for row in lived[number][DEDUP] if "nobody" not in row[0]]
        restored[DEDUP] = [row for row in restored[DEDUP] if "nobody" not in row[0]]
        assert restored == lived[number]


def test_a_run_that_continued_as_new_does_not_hand_on_a_signal_twice(bench: Bench) -> None:
    one = bench.rig
    one.start("w", goes_on, 2)
    one.start("teller", tells, "w")
    one.wait_for(e.RunContinuedAsNew, "w")
    _later(bench, 15)
    _send_again(bench)
    assert len(one.bodies(e.SignalReceived, "w")) == 1
    assert len(one.bodies(e.RunContinuedAsNew, "w")) == 1


def test_what_a_caller_sent_is_forgotten_after_its_horizon(bench: Bench) -> None:
    one = bench.rig
    one.start("w", listens)
    body = c.SignalWorkflow("other")
    one.accepted("w", body, "the-id")
    _later(bench, 15)
    bench.until_gone(DEDUP)
