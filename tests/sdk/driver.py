"""Plays the engine for one run: turns commands into events, carries steps out in this thread, lets time pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.codec.payloads import adapter, encode_failure
from orchestrator.core import commands as c, events as e
from orchestrator.core.ids import step_id
from orchestrator.core.replay import turns_of
from orchestrator.core.values import Failure, Payload
from orchestrator.sdk.turn import LiveRun, Turn
from orchestrator.sdk.workflow import Workflow, WorkflowCode

NOW = 1_000_000
LIVE: list[LiveRun] = []
"""Every run of a test; an engine evicts each before it lets go of it, and so does `conftest.py`."""


def live_run(code: WorkflowCode, started: e.RunStarted) -> LiveRun:
    """A run in memory."""
    live = LiveRun(code, "w", "r", started)
    LIVE.append(live)
    return live


def as_event(turn: int, command: c.TurnCommand) -> Any:
    """The event that a command becomes."""
    kinds: dict[type, Callable[..., Any]] = {
        c.ScheduleStep: e.StepScheduled,
        c.SetTimer: e.TimerSet,
        c.CancelTimer: e.TimerCancelled,
        c.CancelStep: e.StepCancelRequested,
        c.CancelChild: e.ChildCancelRequested,
        c.SendSignal: e.SignalSent,
        c.SendCancel: e.CancelSent,
        c.RecordPatch: e.RunPatched,
        c.CompleteRun: e.RunCompleted,
        c.FailRun: e.RunFailed,
        c.CancelRun: e.RunCancelled,
    }
    if isinstance(command, c.StartChild):
        child = command.workflow_id or f"w/{command.path}:{command.n}"
        return e.ChildScheduled(turn, *command[:4], child, *command[5:])
    if isinstance(command, c.ContinueAsNew):
        return e.RunContinuedAsNew(turn, command.arguments, "next")
    if isinstance(command, c.ChangeEntity):
        return e.EntityChanged(turn, command.state)
    return kinds[type(command)](turn, *command)


class Driver:
    """One run. `pending` are steps, timers and children that the log has no outcome of, by identity."""

    def __init__(
        self,
        workflow: Workflow[..., Any] | WorkflowCode,
        *args: Any,
        started: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """`started`: more fields of `RunStarted`; the others are the call's arguments."""
        self.code = workflow if isinstance(workflow, WorkflowCode) else workflow.code
        self.history: list[e.Event] = []
        self.pending: dict[str, Any] = {}
        self.now = NOW
        self.verdict: c.ParkRun | None = None
        self.end: Any = None
        self.started = e.RunStarted(
            self.code.workflow_type,
            self.code.version,
            self.code.signature.bind(args, kwargs),
            "seed",
            **(started or {}),
        )
        self.live = live_run(self.code, self.started)
        self.deliver(self.started)

    def event(self, body: Any) -> e.Event:
        """Append to the history."""
        made = e.Event("w", "r", len(self.history) + 1, body, recorded_at_ms=self.now)
        self.history.append(made)
        return made

    def deliver(self, body: Any) -> Turn:
        """One delivery, one turn."""
        event = self.event(body)
        turn = self.live.deliver(event)
        self.verdict = turn.verdict
        for command in turn.commands:
            self._take(event.seq, command)
        return turn

    def _take(self, seq: int, command: c.TurnCommand) -> None:
        body = as_event(seq, command)
        self.event(body)
        if isinstance(command, c.ScheduleStep | c.SetTimer | c.StartChild):
            self.pending[step_id(command.path, command.n)] = command
        elif isinstance(command, c.CancelTimer):
            del self.pending[command.timer]
        elif isinstance(command, c.CompleteRun | c.FailRun | c.CancelRun | c.ContinueAsNew):
            self.end = command

    # -- what the engine and the world do ------------------------------------------------------------------------------

    def steps(self) -> list[c.ScheduleStep]:
        """Pending steps, in order."""
        return [one for one in self.pending.values() if isinstance(one, c.ScheduleStep)]

    def timers(self) -> list[c.SetTimer]:
        """Pending timers, the next due first."""
        found = [one for one in self.pending.values() if isinstance(one, c.SetTimer)]
        return sorted(found, key=lambda one: one.due_at_ms)

    def complete(self, command: c.ScheduleStep | c.StartChild, value: Any) -> Turn:
        """A result."""
        identity = step_id(command.path, command.n)
        self.pending.pop(identity, None)
        payload = adapter(type(value)).encode(value)
        if isinstance(command, c.StartChild):
            return self.deliver(e.ChildCompleted(identity, payload))
        return self.deliver(e.StepCompleted(identity, 1, payload))

    def fail(self, command: c.ScheduleStep, error: BaseException | Failure, timeout: str = "") -> Turn:
        """A final failure."""
        identity = step_id(command.path, command.n)
        self.pending.pop(identity, None)
        declared = self.code.registry.errors
        failure = error if isinstance(error, Failure) else encode_failure(error, declared)
        return self.deliver(e.StepFailed(identity, 1, failure, timeout))

    def work(self, command: c.ScheduleStep) -> Turn:
        """Carry a step out."""
        code = self.code.registry.step(command.name)
        assert code is not None
        args, kwargs = code.signature.unbind(command.arguments)
        try:
            value = code.fn(*args, **kwargs)
            if asyncio.iscoroutine(value):
                value = drain(value)
        except Exception as error:
            return self.fail(command, error)
        identity = step_id(command.path, command.n)
        del self.pending[identity]
        return self.deliver(e.StepCompleted(identity, 1, code.signature.result.encode(value)))

    def fire(self) -> Turn:
        """Time passes up to the next timer."""
        timer = self.timers()[0]
        identity = step_id(timer.path, timer.n)
        del self.pending[identity]
        self.now = max(self.now, timer.due_at_ms)
        return self.deliver(e.TimerFired(identity, timer.due_at_ms))

    def signal(self, name: str, data: bytes = b"null") -> Turn:
        """A signal arrives."""
        return self.deliver(e.SignalReceived(name, Payload(data=data)))

    def cancel(self) -> Turn:
        """Someone asks the run to end."""
        return self.deliver(e.CancelRequested())

    def go(self) -> Driver:
        """Steps in order, then timers, until nothing is pending or the run ends."""
        while self.end is None and self.verdict is None and (self.steps() or self.timers()):
            if self.steps():
                self.work(self.steps()[0])
            else:
                self.fire()
        return self

    # -- what a test looks at ------------------------------------------------------------------------------------------

    @property
    def result(self) -> Any:
        """The run's result."""
        assert isinstance(self.end, c.CompleteRun), (self.end, self.verdict, self.live.waiting)
        return self.code.signature.result.decode(self.end.result)

    @property
    def failure(self) -> Failure:
        """The run's failure."""
        assert isinstance(self.end, c.FailRun), (self.end, self.verdict, self.live.waiting)
        return self.end.failure

    def recorded(self, kind: type) -> list[Any]:
        """Bodies of a kind."""
        return [event.body for event in self.history if isinstance(event.body, kind)]


def drain(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a step of these tests waits")


def replay(history: Sequence[e.Event], code: WorkflowCode, deliveries: int | None = None) -> LiveRun:
    """A new run brought to where history is; asserts that no turn diverges."""
    started = history[0].body
    assert isinstance(started, e.RunStarted)
    live = live_run(code, started)
    for number, (delivery, recorded) in enumerate(turns_of(history)):
        if deliveries is not None and number >= deliveries:
            break
        turn = live.replay(delivery, recorded)
        assert turn.verdict is None, turn.verdict
    return live


def at_every_prefix(driver: Driver) -> None:
    """Evicted after any number of deliveries and brought back, the rest of the history follows as recorded."""
    turns = list(turns_of(driver.history))
    for cut in range(1, len(turns)):
        live = replay(driver.history, driver.code, cut)
        delivery, recorded = turns[cut]
        turn = live.deliver(delivery)
        issued = sorted(repr(as_event(delivery.seq, one)) for one in turn.commands)
        assert issued == sorted(repr(one.body) for one in recorded), f"after {cut} deliveries"
        live.evict()


def verdict_of(driver: Driver, code: WorkflowCode) -> c.ParkRun:
    """The verdict of other code on a history; asserts that there is one."""
    live = live_run(code, driver.started)
    for delivery, recorded in turns_of(driver.history):
        turn = live.replay(delivery, recorded)
        if turn.verdict is not None:
            return turn.verdict
    raise AssertionError("nothing diverged")
