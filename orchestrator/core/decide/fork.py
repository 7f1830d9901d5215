"""A run that goes on from a point of another one's history: fork, reset, resume after a failure.

The new run of the same workflow id begins with a copy of what was recorded up to there, under the same numbers: its
code is replayed over it and finds every result. What was pending begins anew; nothing that was done is done again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from .. import events as e, ids
from ..commands import Command, ForkWorkflow
from ..rows import HISTORY, history_key
from ..values import NO_CAUSE, NOTHING, Cause, LimitNeed, Payload
from .decision import (
    CLOSED,
    Context,
    Draft,
    KeyFailed,
    View,
    begun_before,
    caused,
    current_run,
    needs_of,
    no_such_run,
    priority_of,
    rejected,
)

MOST_EVENTS = 20_000
"""A copy is one batch: a longer one would hold its partition up."""


class History(NamedTuple):
    """The events of a run, numbered from 1. Each is read when it is asked for: there is no bound to their number."""

    view: View
    workflow_id: str
    run_id: str
    length: int

    def at(self, seq: int) -> e.Event:
        """One event."""
        event: e.Event = self.view.get(HISTORY, history_key(self.workflow_id, self.run_id, seq)).event
        return event

    def behind(self, seq: int) -> Iterator[e.Event]:
        """Those behind an event, in order; 0: all."""
        key = (self.workflow_id, self.run_id)
        for _, record in self.view.scan(HISTORY, key, after=history_key(*key, seq)):
            yield record.event

    def beginning(self, length: int) -> list[e.Event]:
        """The first so many."""
        return list(islice(self.behind(0), length))


class NoSuchPoint(Exception):
    """Why a history has no such point."""


class TooLong(Exception):
    """Why the copy would not be one batch."""


def fork_workflow(view: View, command: Command, body: ForkWorkflow, context: Context) -> list[Draft]:
    """Go on from a step, an event, or from where a run failed. An open run ends: its handles follow the new one."""
    new_run_id, again = begun_before(view, command, context)
    if again:
        return again
    run_id, run = current_run(view, command.workflow_id, body.run_id)
    if run is None:
        message = no_such_run(command.workflow_id, body.run_id)
        return rejected(command, context, "not_found", message, run_id)
    newest_id, newest = current_run(view, command.workflow_id)
    if newest is not None and newest_id != run_id and newest.status not in CLOSED:
        message = f"{command.workflow_id} is running (run {newest_id}); fork that one, or end it"
        return rejected(command, context, "already_running", message, newest_id)
    if run.call:
        return rejected(command, context, "bad_request", "a call of an entity cannot be forked", run_id)
    history = History(view, command.workflow_id, run_id, run.seq)
    try:
        kept = _kept(history, _upto(history, body))
        later = _later_signals(history, len(kept), new_run_id) if body.signals else []
        started = _started(kept, body.arguments, context)._replace(actor=command.actor, reason=command.reason)
    except NoSuchPoint as error:
        return rejected(command, context, "no_such_point", f"{command.workflow_id}/{run_id}: {error}", run_id)
    except TooLong as error:
        return rejected(command, context, "limit", f"{command.workflow_id}/{run_id}: {error}", run_id)
    except KeyFailed as error:
        return rejected(command, context, "bad_request", f"{command.workflow_id}/{run_id}: {error}", run_id)
    drafts: list[Draft] = []
    if run.status not in CLOSED:
        moved = e.RunContinuedAsNew(0, started.arguments, new_run_id)
        drafts.append(Draft(command.workflow_id, run_id, moved, caused(command, context, answers=False)))
    return [*drafts, *_copied(kept, started, new_run_id, caused(command, context)), *later]


def after_divergence(view: View, workflow_id: str, run_id: str, turn: int, context: Context) -> list[Draft]:
    """The desk's remedy: the run goes on from its last turn that the code as it is now has too.

    Raises TooLong, KeyFailed.
    """
    _, run = current_run(view, workflow_id, run_id)
    assert run is not None
    history = History(view, workflow_id, run_id, run.seq)
    new_run_id = ids.next_run_id(run_id, turn)
    kept = _kept(history, _before_turn(history, turn))
    later = _later_signals(history, len(kept), new_run_id)
    started = _started(kept, NOTHING, context)._replace(reason="its code diverged")
    moved = Draft(workflow_id, run_id, e.RunContinuedAsNew(0, started.arguments, new_run_id))
    return [moved, *_copied(kept, started, new_run_id, NO_CAUSE), *later]


def _kept(history: History, upto: int) -> list[e.Event]:
    if upto > MOST_EVENTS:
        raise TooLong(f"{upto} events would be copied, at most {MOST_EVENTS} can be")
    return history.beginning(upto)


def _later_signals(history: History, upto: int, new_run_id: str) -> list[Draft]:
    signals: list[Draft] = []
    found = 0
    for event in history.behind(upto):
        if isinstance(event.body, e.SignalReceived):
            found += 1
            if found <= MOST_EVENTS:
                signals.append(Draft(event.workflow_id, new_run_id, event.body))
    if found > MOST_EVENTS:
        raise TooLong(f"{found} later signals would be kept, at most {MOST_EVENTS} can be; they may be left out")
    return signals


# -- where ------------------------------------------------------------------------------------------------------------


def _turn(event: e.Event) -> int:
    return getattr(event.body, "turn", 0)


def _before_turn(history: History, turn: int) -> int:
    """How many events come before the first that this turn, or a later one, issued."""
    # A turn is numbered by its delivery, and what it issues is recorded behind that.
    found = (event.seq for event in history.behind(turn) if _turn(event) >= turn)
    return next(found, history.length + 1) - 1


def _upto(history: History, body: ForkWorkflow) -> int:
    if body.step:
        return _before_step(history, body.step)
    if body.event:
        return _at_event(history, body.event)
    return _before_failure(history)


def _before_step(history: History, step: str) -> int:
    turn = 0
    for event in history.behind(0):
        if step in _names(event.body):
            turn = _turn(event)
    if not turn:
        raise NoSuchPoint(f"no step {step!r} in its history: give a step's id (0:3) or its name")
    return _before_turn(history, turn)


def _names(body: e.Body) -> tuple[str, ...]:
    if isinstance(body, e.StepScheduled):
        return ids.step_id(body.path, body.n), body.name
    if isinstance(body, e.ChildScheduled):
        return ids.step_id(body.path, body.n), body.workflow_type
    return ()


def _at_event(history: History, event: int) -> int:
    if not 0 < event <= history.length:
        raise NoSuchPoint(f"it has {history.length} events, none numbered {event}")
    upto = event - isinstance(history.at(event).body, e.TERMINAL)
    turn = _turn(history.at(upto))
    # A turn is copied whole or not at all.
    cut_in_two = turn and upto < history.length and _turn(history.at(upto + 1)) == turn
    return _before_turn(history, turn) if cut_in_two else upto


def _before_failure(history: History) -> int:
    end = history.at(history.length).body
    if not isinstance(end, e.RunFailed):
        raise NoSuchPoint("it has not failed: say from which step or event it is to go on")
    if not end.turn:
        return history.length - 1
    if isinstance(history.at(end.turn).body, e.StepFailed | e.ChildFailed):
        return end.turn - 1
    return _before_turn(history, end.turn)


# -- what -------------------------------------------------------------------------------------------------------------


def _started(history: Sequence[e.Event], arguments: Payload, context: Context) -> e.RunStarted:
    """The new run's first event. `arguments` NOTHING: as they were. Raises KeyFailed."""
    first = history[0].body
    assert isinstance(first, e.RunStarted)
    if arguments != NOTHING:
        first = first._replace(arguments=arguments)
    return first._replace(
        limits=_needs(history, first, edited=arguments != NOTHING, context=context),
        previous_run_id=history[0].run_id,
        start_delay_ms=0,
        execution_ends_ms=0,
        forked_upto=len(history),
    )


def _needs(
    history: Sequence[e.Event], started: e.RunStarted, *, edited: bool, context: Context
) -> tuple[LimitNeed, ...]:
    """What the new run asks for, as a start of it would. One that nobody had code for yet asks when it is pinned."""
    pins = (event.body for event in history if isinstance(event.body, e.RunPinned))
    pinned: e.RunStarted | e.RunPinned = next(pins, started)
    known = context.code_of(started.workflow_type, pinned.version) if pinned.version else None
    if known is None:
        if edited and pinned.limits:
            code = f"version {pinned.version} of {started.workflow_type}"
            raise KeyFailed(f"what it needs of its limits with other arguments only {code} can tell, which is not here")
        return pinned.limits
    return needs_of(known, started.arguments, priority_of(pinned.limits))


def _copied(history: Sequence[e.Event], started: e.RunStarted, new_run_id: str, cause: Cause) -> list[Draft]:
    """The beginning of the new run: a copy of this history, then what begins anew."""
    source = history[0]
    place = (source.workflow_id, new_run_id)
    steps, children, waits = _pending(history)
    began_ms = source.code_ms + (source.body.start_delay_ms if isinstance(source.body, e.RunStarted) else 0)
    drafts = [Draft(*place, started, cause, began_ms)]
    drafts += [Draft(*place, _own(event, children, new_run_id), NO_CAUSE, event.code_ms) for event in history[1:]]
    if _stands_still(history):
        drafts.append(Draft(*place, e.RunResumed()))
    for step, cancelled in steps.items():
        drafts.append(Draft(*place, e.StepCancelled(step, 1) if cancelled else e.StepRetried(step, 1)))
    drafts += [Draft(*place, e.ChildRestarted(child, cancelled)) for child, cancelled in children.items()]
    drafts += [Draft(*place, e.WaitRestarted(wait)) for wait in waits]
    return drafts


def _own(event: e.Event, pending: dict[str, bool], new_run_id: str) -> Any:
    """A copied body; a child that begins anew has an id of the new run's, unless its caller chose one."""
    body = event.body
    if isinstance(body, e.RunPinned):
        # A copy asks nobody: the new run's first event has asked.
        return body._replace(limits=())
    if isinstance(body, e.ChildScheduled):
        step = ids.step_id(body.path, body.n)
        derived = ids.child_workflow_id(event.workflow_id, event.run_id, step)
        if step in pending and body.child_workflow_id == derived:
            return body._replace(child_workflow_id=ids.child_workflow_id(event.workflow_id, new_run_id, step))
    return body


def _pending(history: Sequence[e.Event]) -> tuple[dict[str, bool], dict[str, bool], list[str]]:
    """Steps and children without an outcome, and whether they were asked to cancel; waits without an event."""
    steps: dict[str, bool] = {}
    patient: set[str] = set()
    children: dict[str, bool] = {}
    waits: dict[str, None] = {}
    for body in (event.body for event in history):
        if isinstance(body, e.StepScheduled):
            step = ids.step_id(body.path, body.n)
            steps[step] = False
            patient |= {step} if body.options.cancellation == "wait" else set()
        elif isinstance(body, e.ChildScheduled):
            children[ids.step_id(body.path, body.n)] = False
        elif isinstance(body, e.EventAwaited):
            waits[ids.step_id(body.path, body.n)] = None
        elif isinstance(body, e.StepCancelRequested) and body.step in patient:
            steps[body.step] = True
        elif isinstance(body, e.StepCompleted | e.StepFailed | e.StepCancelled | e.StepCancelRequested):
            steps.pop(body.step, None)
        elif isinstance(body, e.ChildCancelRequested):
            children[body.child] = True
        elif isinstance(body, e.ChildCompleted | e.ChildFailed):
            children.pop(body.child, None)
        elif isinstance(body, e.EventDelivered | e.WaitCancelled):
            waits.pop(body.wait, None)
    return steps, children, list(waits)


def _stands_still(history: Sequence[e.Event]) -> bool:
    last = [event.body for event in history if isinstance(event.body, e.RunParked | e.RunPaused | e.RunResumed)]
    return bool(last) and not isinstance(last[-1], e.RunResumed)
