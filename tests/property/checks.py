"""What must hold of every history: the fold at every prefix, the replay at every prefix, the models, the laws."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from orchestrator.core import events as e
from orchestrator.core.events import Event
from orchestrator.core.ids import step_id
from orchestrator.core.replay import turns_of
from orchestrator.sdk.compare import divergence
from orchestrator.sdk.turn import LiveRun
from orchestrator.testing import Replayer
from tests.property.interpreter import ATTEMPTS, app, interpret, work
from tests.property.model import Asked, ModelRun
from tests.property.programs import Failing, Node, Racy, denote, walk

ENDS = (e.RunCompleted, e.RunFailed, e.RunCancelled, e.RunContinuedAsNew, e.RunTerminated)


class Wrong(AssertionError):
    """A property does not hold."""


def replays(history: Sequence[Event]) -> int:
    """Workflow code replayed at every prefix asks for what is recorded; returns how many prefixes there are."""
    Replayer(app).replay(history)
    turns = taken(history)
    started = history[0].body
    assert isinstance(started, e.RunStarted)
    for cut in range(len(turns)):
        live = LiveRun(interpret.code, history[0].workflow_id, history[0].run_id, started)
        try:
            for delivery, recorded in turns[:cut]:
                if problem := live.replay(delivery, recorded).verdict:
                    raise Wrong(f"replay, event {delivery.seq} ({type(delivery.body).__name__}): {problem.message}")
            delivery, recorded = turns[cut]
            turn = live.deliver(delivery)
            problem = turn.verdict or divergence(turn.commands, recorded, interpret.code.registry)
            if problem:
                raise Wrong(f"after {cut} deliveries, event {delivery.seq}: {problem.message}")
        finally:
            live.evict()
    return len(turns)


def taken(history: Sequence[Event]) -> list[tuple[Event, list[Event]]]:
    """The turns that the run took: what was recorded just before its end, its code may never have heard."""
    turns = list(turns_of(history))
    last = max((number for number, (_, recorded) in enumerate(turns) if recorded), default=-1)
    return turns[: last + 1] if isinstance(history[-1].body, ENDS) else turns


class Differential:
    """One history against the program on the standard library's loop."""

    def __init__(self, history: Sequence[Event]) -> None:
        self._history = history
        self._labels: dict[str, str] = {}
        self._timers: dict[str, int] = {}
        started = history[0]
        assert isinstance(started.body, e.RunStarted)
        (self.program, self.at), _ = interpret.code.signature.unbind(started.body.arguments)
        self._model = ModelRun(self.program, self.at, started.recorded_at_ms)

    def check(self) -> None:
        """Raises Wrong at the first turn that asked for something else.

        Mode `wait` is no habit of the standard library's: programs with such steps are not judged here.
        """
        programs = [self.program]
        programs += [
            json.loads(event.body.payload.data)[1]
            for event in self._history
            if isinstance(event.body, e.UpdateAccepted)
        ]
        if any(node[0] == "step" and node[4] == "wait" for program in programs for node, _ in walk(program)):
            self._model.close()
            return
        try:
            for delivery, recorded in taken(self._history):
                asked = self._model.turn(delivery.recorded_at_ms, self._telling(delivery.body))
                self._compare(delivery, asked, recorded)
        finally:
            self._model.close()

    def _telling(self, body: Any) -> Callable[[], None]:
        model = self._model
        if isinstance(body, e.StepCompleted):
            return partial(model.result, "step", self._labels[body.step], json.loads(body.result.data))
        if isinstance(body, e.StepFailed | e.StepCancelled):
            return partial(model.result, "step", self._labels[body.step], None, False)
        if isinstance(body, e.ChildCompleted):
            return partial(model.result, "child", self._labels[body.child], json.loads(body.result.data))
        if isinstance(body, e.ChildFailed):
            return partial(model.result, "child", self._labels[body.child], None, False)
        if isinstance(body, e.TimerFired):
            return partial(model.loop.fire, self._timers[body.timer])
        if isinstance(body, e.SignalReceived):
            return partial(model.told, body.name, json.loads(body.payload.data))
        if isinstance(body, e.UpdateAccepted):
            number, program = json.loads(body.payload.data)
            return partial(model.update, body.update, number, program)
        if isinstance(body, e.CancelRequested):
            return model.cancel
        return lambda: None

    def _is_over(self, asked: Asked, place: int) -> bool:
        """A cancel of what had its outcome on the log already, when the turn that knew nothing of it was taken."""
        kind, of = asked
        if not kind.startswith("cancel "):
            return False
        names = self._timers if kind == "cancel timer" else self._labels
        outcomes = (e.StepCompleted, e.StepFailed, e.StepCancelled, e.TimerFired, e.ChildCompleted, e.ChildFailed)
        return any(
            isinstance(event.body, outcomes) and names.get(event.body[0]) == of for event in self._history[: place - 1]
        )

    def _compare(self, delivery: Event, asked: list[Asked], recorded_at: list[Event]) -> None:
        recorded = [event.body for event in recorded_at]
        numbers = [one[1][0] for one in asked if one[0] == "timer"]
        wanted = [("timer", one[1][1]) if one[0] == "timer" else one for one in asked]
        set_here = [body for body in recorded if isinstance(body, e.TimerSet)]
        for number, body in zip(numbers, set_here, strict=False):
            self._timers[step_id(body.path, body.n)] = number
        found = [self._asked(body) for body in recorded]
        place = recorded_at[0].seq if recorded_at else len(self._history) + 1
        wanted = [one for one in wanted if one in found or not self._is_over(one, place)]
        if any(kind.startswith("cancel ") for kind, _ in wanted):
            # Tasks are cancelled in the order of a set.
            wanted, found = sorted(wanted, key=repr), sorted(found, key=repr)
        if wanted != found:
            raise Wrong(
                f"event {delivery.seq} ({type(delivery.body).__name__}): the standard library's loop asks for {wanted},"
                f" the history has {found}"
            )

    def _asked(self, body: Any) -> Asked:
        if isinstance(body, e.StepScheduled):
            (label, _, _), _ = _arguments(body)
            self._labels[step_id(body.path, body.n)] = label
            return "step", label
        if isinstance(body, e.ChildScheduled):
            (_, at), _ = interpret.code.signature.unbind(body.arguments)
            self._labels[step_id(body.path, body.n)] = at
            return "child", at
        if isinstance(body, e.TimerSet):
            return "timer", body.due_at_ms
        if isinstance(body, e.TimerCancelled):
            return "cancel timer", self._timers[body.timer]
        if isinstance(body, e.StepCancelRequested):
            return "cancel step", self._labels[body.step]
        if isinstance(body, e.ChildCancelRequested):
            return "cancel child", self._labels[body.child]
        if isinstance(body, e.RunCompleted):
            return "completed", json.loads(body.result.data)
        if isinstance(body, e.UpdateCompleted):
            if body.failure is not None:
                return "update failed", body.update
            return "updated", (body.update, json.loads(body.result.data))
        if isinstance(body, e.RunContinuedAsNew):
            return "again", json.dumps(list(interpret.code.signature.unbind(body.arguments)[0]))
        return {e.RunFailed: "failed", e.RunCancelled: "cancelled"}[type(body)], None


def updates(histories: Sequence[Sequence[Event]]) -> int:
    """Of the runs of one workflow: no update is accepted twice, or refused and accepted, or answered twice or before.

    Returns how many were answered. Raises Wrong.
    """
    accepted, answered = set[str](), set[str]()
    for history in histories:
        here = set[str]()
        for body in (event.body for event in history):
            if isinstance(body, e.UpdateAccepted):
                if body.update in accepted or json.loads(body.payload.data)[0] < 0:
                    raise Wrong(f"update {body.update} was accepted, and before, or it was to be refused: {body}")
                accepted.add(body.update)
                here.add(body.update)
            elif isinstance(body, e.UpdateCompleted):
                if body.update not in here or body.update in answered:
                    raise Wrong(f"update {body.update} was answered, and before, or not accepted by this run: {body}")
                answered.add(body.update)
    return len(answered)


def _arguments(body: e.StepScheduled) -> Any:
    return work.code.signature.unbind(body.arguments)


def steps(history: Sequence[Event]) -> Counter[str]:
    """Labels of the steps that gave a result. Raises Wrong when a step's outcome is not that of its plan."""
    plans: dict[str, tuple[str, int, str]] = {}
    asked: set[str] = set()
    found = Counter[str]()
    for event in history:
        body = event.body
        if isinstance(body, e.StepScheduled):
            plans[step_id(body.path, body.n)] = _arguments(body)[0]
        elif isinstance(body, e.StepCancelRequested):
            asked.add(body.step)
        elif isinstance(body, e.StepCompleted):
            label, fails, ends = plans[body.step]
            if ends != "ok" or json.loads(body.result.data) != label or body.attempt != fails + 1:
                raise Wrong(f"step {label} ({fails} failures, then {ends}): {body}")
            found[label] += 1
        elif isinstance(body, e.StepFailed):
            label, fails, ends = plans[body.step]
            attempt = 1 if ends == "broken" else ATTEMPTS
            # A step that was asked to end is not retried: its failure is the outcome.
            if body.step not in asked and (ends == "ok" or body.attempt != attempt):
                raise Wrong(f"step {label} ({fails} failures, then {ends}): {body}")
        elif isinstance(body, e.StepCancelled) and body.step not in asked:
            raise Wrong(f"step {plans[body.step][0]} was cancelled and nobody asked")
    return found


def possible(program: Node) -> Counter[str]:
    """How often each step of a program, children included, can give a result."""
    found = Counter[str]()
    for node, times in walk(program):
        if node[0] == "step":
            found[str(node[1])] += times
    return found


def bounded(program: Node, found: Counter[str]) -> None:
    """No result that the program has no place for, none twice. Raises Wrong."""
    twice = [label for label, count in found.items() if count > 1]
    places = possible(program)
    numbers = Counter[str]()
    for label in found:
        numbers["".join(c for c in label.partition("#")[0].partition("/")[0] if c.isdigit())] += 1
    beyond = [label for label, count in numbers.items() if count > places[label]]
    if twice or beyond:
        raise Wrong(f"results that came twice: {twice}, more often than the program can: {beyond}")


def denoted(program: Node, status: str, value: Any, found: Counter[str]) -> bool:
    """The outcome and the results are those of the program's meaning; False when it leaves them open."""
    try:
        wanted, results = denote(program)
        outcome = "completed"
    except Failing as failing:
        wanted, results, outcome = None, failing.steps, "failed"
    except Racy:
        return False
    if (outcome, wanted, results) != (status, value if outcome == "completed" else None, found):
        raise Wrong(f"{status} {value} with {dict(found)}; the program means {outcome} {wanted} with {dict(results)}")
    return True
