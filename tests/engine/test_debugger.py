"""Under a debugger nothing is over: neither a turn, nor a step's time, nor the engine's patience with itself."""

from __future__ import annotations

import faulthandler
import io
import pdb  # noqa: T100  # the debugger whose presence is to be noticed
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.engine import steps, supervisor as supervisor_module, turn_guard
from orchestrator.engine.clock import SystemClock
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.supervisor import Supervisor
from orchestrator.sdk.debugger import debugged
from tests.engine.rig import PATIENCE_S, Rig

Make = Callable[[Orchestrator], Rig]
app = Orchestrator("debugged")
FEW_MS = timedelta(milliseconds=40)


class Typist(io.StringIO):
    """A scripted stdin: somebody who looks at the prompt for as long as it takes, then types line after line."""

    def __init__(self, lines: list[str], wait: Callable[[], None]) -> None:
        super().__init__()
        self._lines = iter(lines)
        self._wait = wait
        self._fresh = True

    def readline(self, size: int | None = -1, /) -> str:
        """The next line."""
        if self._fresh:
            self._fresh = False
            self._wait()
        return next(self._lines, "") + "\n"


class Desk:
    """Where a breakpoint in code under test leads."""

    def __init__(self) -> None:
        self.said = io.StringIO()
        self.lines = ["p 'x is', x", "next", "p 'y is', y", "continue"]
        self.wait: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """`breakpoint()`, as this test's debugger has it: in its caller's frame."""
        prompt = pdb.Pdb(stdin=Typist(self.lines, self.wait), stdout=self.said, nosigint=True, readrc=False)
        prompt.set_trace(sys._getframe(1))


desk = Desk()


@app.workflow
async def inspected(x: int) -> int:
    """Somebody looks into its turn."""
    desk.stop()
    y = x + 1
    return y + await watched(y)


@app.step(start_to_close=FEW_MS, heartbeat=FEW_MS)
def watched(y: int) -> int:
    """Somebody looks into this step, which has very little time."""
    desk.stop()
    return y


@app.step(start_to_close=FEW_MS, on_crash="fail")
def guarded(x: int) -> int:
    """The same, of a step whose time-out is a timer of the log."""
    y = x
    desk.stop()
    return y


@app.workflow
async def once(x: int) -> int:
    return await guarded(x)


@app.workflow
async def endless() -> int:
    while True:
        pass


@pytest.fixture(autouse=True)
def sat_at() -> Iterator[None]:
    """A new desk, and no trace of the last one on this thread."""
    desk.__init__()  # type: ignore[misc]
    yield
    sys.settrace(None)


class Looks:
    """Counts how often threads that watch were held off by a debugger."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._changed = threading.Condition()
        self._seen = 0
        for module in (steps, turn_guard):
            monkeypatch.setattr(module, "debugged", self._look)

    def _look(self) -> bool:
        found = debugged()
        with self._changed:
            self._seen += found
            self._changed.notify_all()
        return found

    def wait(self) -> None:
        """Until somebody who would have ended this thread's work did not: a turn is left alone after one look."""
        in_turn = threading.current_thread().name.startswith("partition")
        with self._changed:
            enough = self._seen + (1 if in_turn else 3)
            assert self._changed.wait_for(lambda: self._seen >= enough, PATIENCE_S), "nobody looked"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Whoever sits at a prompt waits until the watchers have looked."""
    found = Looks(monkeypatch)
    desk.wait = found.wait
    return found


@pytest.mark.usefixtures("looks")
def test_a_turn_and_its_step_wait_for_whoever_debugs_them(rig: Make) -> None:
    one = rig(app)
    one.engine(EngineOptions(turn_s=0.05))
    one.start("w", inspected, 1)
    assert one.result("w") == b"4"
    assert "('x is', 1)" in desk.said.getvalue()
    assert "('y is', 2)" in desk.said.getvalue()
    assert not one.bodies(e.StepAttemptFailed, "w")
    # The prompts are closed: on the very same threads a turn without end is ended.
    for number in range(4):
        one.start(f"e{number}", endless)
    assert all("longer than a second" in one.parked(f"e{number}") for number in range(4))


@pytest.mark.usefixtures("looks")
def test_a_time_out_on_the_log_waits_too(rig: Make) -> None:
    one = rig(app)
    one.engine()
    one.start("w", once, 1)
    assert one.result("w") == b"1"
    assert not one.bodies(e.StepFailed, "w")


def test_the_engine_does_not_end_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    switch: list[str] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, exit, file: switch.append("armed"))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: switch.append("off"))
    late: Any = SimpleNamespace(number=0, deadline=float("-inf"))
    watched: list[Any] = []
    supervisor = Supervisor(lambda: watched, SystemClock())
    supervisor._look()
    watched.append(late)
    supervisor._look()
    assert switch == ["armed"]
    monkeypatch.setattr(supervisor_module, "debugged", lambda: True)
    supervisor._look()
    assert switch == ["armed", "off"]


def test_the_supervisor_strikes_itself_when_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the GIL; the C thread, which reads the frames of threads that run, is for when nobody else gets it."""
    struck: list[list[int]] = []
    monkeypatch.setattr(supervisor_module, "_end", struck.append)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, exit, file: None)
    moment = SimpleNamespace(now=100.0)
    clock: Any = SimpleNamespace(monotonic=lambda: moment.now)
    late: Any = SimpleNamespace(number=7, deadline=100.0)
    monkeypatch.setattr(supervisor_module, "_switch", supervisor_module._Switch())
    supervisor = Supervisor(lambda: [late], clock)
    looks = int(supervisor_module.HUNG_S / supervisor_module.LOOK_S)
    # Stopped for an hour, and thawed: to the partition's deadline that counts, to its patience it does not.
    moment.now += 3600
    for _ in range(looks):
        supervisor._look()
    assert not struck
    supervisor._look()
    assert struck == [[7]]
    late.deadline = moment.now
    supervisor._look()
    late.deadline -= 1
    for _ in range(looks):
        supervisor._look()
    assert struck == [[7]]


def test_the_switch_needs_no_file_for_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    supervisor = Supervisor(list, SystemClock())
    supervisor._look()
    supervisor.start()
    supervisor.stop()


def test_what_counts_as_a_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = threading.gettrace()
    try:
        threading.settrace(None)  # type: ignore[arg-type]
        assert not debugged()
        ide = ModuleType("pydevd")
        monkeypatch.setitem(sys.modules, "pydevd", ide)
        assert debugged()
        ide.get_global_debugger = lambda: None  # type: ignore[attr-defined]
        assert not debugged()
        threading.settrace(lambda frame, event, argument: None)
        assert debugged()
        counter = SimpleNamespace()
        counter.__module__ = "coverage.pytracer"
        threading.settrace(counter)  # type: ignore[arg-type]
        assert not debugged()
        tools = SimpleNamespace(DEBUGGER_ID=0, get_tool=lambda number: "mine")
        monkeypatch.setattr(sys, "monitoring", tools, raising=False)
        assert debugged()
    finally:
        threading.settrace(quiet)  # type: ignore[arg-type]
