"""Steps in threads of this process: the same interface, without the walls."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sdk.execution import CANCELLED, UNKNOWN, ExecutorOptions
from orchestrator.worker.loading import load_app
from orchestrator.worker.threads import ThreadExecutor

from .rig import APP, LONG_S, Rig, lines, until

MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig() -> Iterator[MakeRig]:
    """Make rigs on threads; keyword arguments are options."""
    made: list[ThreadExecutor] = []

    def make(**options: Any) -> Rig:
        rig = Rig()
        executor = ThreadExecutor(load_app(APP), ExecutorOptions(**options), rig)
        made.append(executor)
        rig.executor = executor
        return rig

    yield make
    for executor in made:
        executor.stop(0)


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    """A rig with the default options."""
    return make_rig()


def test_steps_run_in_this_process(rig: Rig) -> None:
    assert rig.result(rig.start("whoami")) == os.getpid()
    assert rig.result(rig.start("blocking_whoami")) == os.getpid()
    call = rig.start("about")
    assert rig.result(call) == f"flow run 1 flow/run/{call.step}"


def test_failures_and_unknown_steps(rig: Rig) -> None:
    failure = rig.outcome(rig.start("fail", text="no")).failure
    assert failure is not None
    assert (failure.type, failure.message) == ("ValueError", "no")
    failure = rig.outcome(rig.start("nowhere")).failure
    assert failure is not None
    assert failure.type == UNKNOWN
    failure = rig.outcome(rig.start("leave")).failure
    assert failure is not None
    assert "SystemExit" in failure.type


def test_it_works_beside_a_running_loop(rig: Rig) -> None:
    async def inside() -> str:
        call = rig.start("echo", value="x")
        result: str = await asyncio.to_thread(rig.result, call)
        return result

    assert asyncio.run(inside()) == "x"


def test_blocking_steps_wait_for_slots(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(slots=2)
    gate = tmp_path / "gate"
    calls = [rig.start("blocking_hold", file=str(gate)) for _ in range(3)]
    until(lambda: len(lines(gate)) == 2, "two at once")
    assert [rig.executor.waiting(call.token) for call in calls] == [False, False, True]
    (tmp_path / "gate.go").touch()
    for call in calls:
        rig.result(call)
    assert len(lines(gate)) == 3


def test_guarded_steps_need_a_slot(make_rig: MakeRig, tmp_path: Path) -> None:
    freed = threading.Event()
    rig = make_rig(guarded_slots=1, freed=freed.set)
    gate = tmp_path / "gate"
    call = rig.call("hold", "park", file=str(gate))
    assert rig.executor.reserve(call.token)
    assert not rig.executor.slot_free()
    assert not rig.executor.reserve("another")
    assert rig.executor.start(call)
    assert not rig.executor.start(rig.call("whoami", "fail"))
    (tmp_path / "gate.go").touch()
    rig.result(call)
    assert freed.wait(LONG_S)
    assert rig.executor.reserve("another")
    rig.executor.unreserve("another")
    assert rig.executor.slot_free()


def test_cancel(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(slots=1)
    awaiting = rig.start("hold", file=str(tmp_path / "async"))
    patient = rig.start("patient", file=str(tmp_path / "sync"))
    until(lambda: lines(tmp_path / "async") and lines(tmp_path / "sync"), "both to begin")
    late = rig.start("blocking_hold", file=str(tmp_path / "late"))
    for call in (late, awaiting, patient):
        rig.executor.cancel(call.token)
    for call in (late, awaiting):
        failure = rig.outcome(call).failure
        assert failure is not None
        assert failure.type == CANCELLED
    assert rig.result(patient) == "gave up"
    assert not (tmp_path / "late").exists()


def test_heartbeats(rig: Rig) -> None:
    call = rig.start("beats", count=50, heartbeat_ms=60_000)
    assert rig.outcome(call).failure is not None
    assert rig.beats(call) == [0, 49]


def test_stop_names_what_it_cuts_off_and_reports_nothing_of_it(rig: Rig, tmp_path: Path) -> None:
    endless = rig.start("hold", file=str(tmp_path / "gate"))
    until(lambda: lines(tmp_path / "gate"), "the step to begin")
    assert rig.executor.stop(0.1) == {endless.token}
    assert rig.executor.stop(0.1) == frozenset()
    assert rig.outcomes(endless) == []
    assert not rig.executor.start(rig.call("whoami"))


def test_an_attempt_is_told_once_to_end(make_rig: MakeRig, tmp_path: Path) -> None:
    """The word comes again, from the engine or with the end of its run: it would cut off what the step tidies up."""
    rig = make_rig()
    tidying = rig.start("tidies_up", file=str(tmp_path / "said"))
    until(lambda: lines(tmp_path / "said") == ["began"], "it to begin")
    rig.executor.cancel(tidying.token)
    until(lambda: lines(tmp_path / "said") == ["began", "told"], "it to be told")
    rig.executor.cancel(tidying.token)
    (tmp_path / "said.gate").touch()
    failure = rig.outcome(tidying).failure
    assert failure is not None
    assert failure.type == CANCELLED
    assert lines(tmp_path / "said") == ["began", "told", "tidied"]
