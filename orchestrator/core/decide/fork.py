"""A run that goes on from a point of another one's history: fork, reset, resume after a failure.

The new run of the same workflow id begins with a copy of what was recorded up to there, under the same numbers: its
code is replayed over it and finds every result. What was pending begins anew; nothing that was done is done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from .. import events as e, ids
from ..commands import Command, ForkWorkflow
from ..rows import HISTORY
from ..values import NO_CAUSE, NOTHING, Cause, Payload
from .decision import CLOSED, Context, Draft, View, begun_before, caused, current_run, no_such_run, rejected

MOST_EVENTS = 20_000
"""A copy is one batch: a longer one would hold its partition up."""
History = Sequence[e.Event]


class NoSuchPoint(Exception):
    """Why a history has no such point."""


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
    history = _history(view, command.workflow_id, run_id)
    try:
        upto = _upto(history, body)
    except NoSuchPoint as error:
        return rejected(command, context, "no_such_point", f"{command.workflow_id}/{run_id}: {error}", run_id)
    if upto > MOST_EVENTS:
        what = f"{upto} events would be copied, at most {MOST_EVENTS} can be"
        return rejected(command, context, "limit", f"{command.workflow_id}/{run_id}: {what}", run_id)
    started = _started(history[:upto], body.arguments)._replace(actor=command.actor, reason=command.reason)
    drafts: list[Draft] = []
    if run.status not in CLOSED:
        moved = e.RunContinuedAsNew(0, started.arguments, new_run_id)
        drafts.append(Draft(command.workflow_id, run_id, moved, caused(command, context, answers=False)))
    drafts += _copied(history[:upto], started, new_run_id, caused(command, context))
    return drafts + (_later_signals(history[upto:], new_run_id) if body.signals else [])


def after_divergence(view: View, workflow_id: str, run_id: str, turn: int) -> list[Draft]:
    """The desk's remedy: the run goes on from its last turn that the code as it is now agrees with."""
    history = _history(view, workflow_id, run_id)
    new_run_id = ids.next_run_id(run_id, turn)
    kept = history[: before_turn(history, turn)]
    started = _started(kept, NOTHING)._replace(reason="its code diverged")
    moved = Draft(workflow_id, run_id, e.RunContinuedAsNew(0, started.arguments, new_run_id))
    later = _later_signals(history[len(kept) :], new_run_id)
    return [moved, *_copied(kept, started, new_run_id, NO_CAUSE), *later]


def _later_signals(history: History, new_run_id: str) -> list[Draft]:
    signals = [event for event in history if isinstance(event.body, e.SignalReceived)]
    return [Draft(event.workflow_id, new_run_id, event.body) for event in signals]


def _history(view: View, workflow_id: str, run_id: str) -> list[e.Event]:
    rows = view.scan(HISTORY, (workflow_id, run_id))
    return [record.event for _, record in islice(rows, 2 * MOST_EVENTS)]


# -- where ------------------------------------------------------------------------------------------------------------


def _turn(event: e.Event) -> int:
    return getattr(event.body, "turn", 0)


def before_turn(history: History, turn: int) -> int:
    """How many events come before the first that this turn, or a later one, issued."""
    return next((at for at, event in enumerate(history) if _turn(event) >= turn), len(history))


def _upto(history: History, body: ForkWorkflow) -> int:
    if body.step:
        return _before_step(history, body.step)
    if body.event:
        return _at_event(history, body.event)
    return _before_failure(history)


def _before_step(history: History, step: str) -> int:
    found = [event for event in history if step in _names(event.body)]
    if not found:
        raise NoSuchPoint(f"no step {step!r} in its history: give a step's id (0:3) or its name")
    return before_turn(history, _turn(found[-1]))


def _names(body: e.Body) -> tuple[str, ...]:
    if isinstance(body, e.StepScheduled):
        return ids.step_id(body.path, body.n), body.name
    if isinstance(body, e.ChildScheduled):
        return ids.step_id(body.path, body.n), body.workflow_type
    return ()


def _at_event(history: History, event: int) -> int:
    if not 0 < event <= len(history):
        raise NoSuchPoint(f"it has {len(history)} events, none numbered {event}")
    upto = event - isinstance(history[event - 1].body, e.TERMINAL)
    turn = _turn(history[upto - 1])
    # A turn is copied whole or not at all.
    cut_in_two = turn and upto < len(history) and _turn(history[upto]) == turn
    return before_turn(history, turn) if cut_in_two else upto


def _before_failure(history: History) -> int:
    end = history[-1].body
    if not isinstance(end, e.RunFailed):
        raise NoSuchPoint("it has not failed: say from which step or event it is to go on")
    if not end.turn:
        return len(history) - 1
    if isinstance(history[end.turn - 1].body, e.StepFailed | e.ChildFailed):
        return end.turn - 1
    return before_turn(history, end.turn)


# -- what -------------------------------------------------------------------------------------------------------------


def _started(history: History, arguments: Payload) -> e.RunStarted:
    """The new run's first event. `arguments` NOTHING: as they were."""
    first = history[0].body
    assert isinstance(first, e.RunStarted)
    return first._replace(
        arguments=first.arguments if arguments == NOTHING else arguments,
        previous_run_id=history[0].run_id,
        start_delay_ms=0,
        execution_ends_ms=0,
        forked_upto=len(history),
    )


def _copied(history: History, started: e.RunStarted, new_run_id: str, cause: Cause) -> list[Draft]:
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
    if isinstance(body, e.ChildScheduled):
        step = ids.step_id(body.path, body.n)
        derived = ids.child_workflow_id(event.workflow_id, event.run_id, step)
        if step in pending and body.child_workflow_id == derived:
            return body._replace(child_workflow_id=ids.child_workflow_id(event.workflow_id, new_run_id, step))
    return body


def _pending(history: History) -> tuple[dict[str, bool], dict[str, bool], list[str]]:
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


def _stands_still(history: History) -> bool:
    last = [event.body for event in history if isinstance(event.body, e.RunParked | e.RunPaused | e.RunResumed)]
    return bool(last) and not isinstance(last[-1], e.RunResumed)
