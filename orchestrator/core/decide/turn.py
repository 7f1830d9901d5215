"""The commands that workflow code issued during a turn, decided in the batch of the event that was delivered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import commands as c, events as e, ids
from ..approvals import digest_of
from ..rows import (
    APPROVALS,
    HISTORY,
    STEPS,
    TIMERS,
    RunRow,
    StepRow,
    WaitRow,
    history_key,
    step_key,
    timer_due_key,
)
from ..values import LimitNeed
from .decision import Context, Draft, View, needs_of, priority_of
from .step import nobody_runs


class TurnPlace:
    """Where a turn's commands belong: the run, and the delivery that woke its code.

    `next_needs`: of the run that this one goes on as, if it does (`needs_of_next`).
    """

    __slots__ = ("next_needs", "run", "run_id", "turn", "workflow_id")

    def __init__(self, workflow_id: str, run_id: str, run: RunRow, turn: int) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.run = run
        self.turn = turn
        self.next_needs: tuple[LimitNeed, ...] = ()


def _schedule_step(view: View, place: TurnPlace, command: c.ScheduleStep) -> list[e.Body]:
    return [e.StepScheduled(place.turn, *command)]


def _cancel_step(view: View, place: TurnPlace, command: c.CancelStep) -> list[e.Body]:
    row = view.get(STEPS, step_key(place.workflow_id, place.run_id, command.step))
    if not isinstance(row, StepRow) or row.cancelled:
        return []
    requested = e.StepCancelRequested(place.turn, command.step)
    if row.options.cancellation == "wait" and nobody_runs(row):
        return [requested, e.StepCancelled(command.step, row.attempt)]
    return [requested]


def _set_timer(view: View, place: TurnPlace, command: c.SetTimer) -> list[e.Body]:
    return [e.TimerSet(place.turn, *command)]


def _cancel_timer(view: View, place: TurnPlace, command: c.CancelTimer) -> list[e.Body]:
    # It may have fired in this batch, and the code not have heard of it yet.
    if view.get(TIMERS, timer_due_key(place.workflow_id, place.run_id, f"sleep|{command.timer}")) is None:
        return []
    return [e.TimerCancelled(place.turn, command.timer)]


def _start_child(view: View, place: TurnPlace, command: c.StartChild) -> list[e.Body]:
    step = ids.step_id(command.path, command.n)
    workflow_id = command.workflow_id or ids.child_workflow_id(place.workflow_id, place.run_id, step)
    return [
        e.ChildScheduled(
            place.turn,
            command.path,
            command.n,
            command.workflow_type,
            command.version,
            workflow_id,
            command.arguments,
            command.call_site,
            command.close_policy,
            command.conflict,
            command.reuse,
            command.start_delay_ms,
            command.execution_timeout_ms,
            command.run_timeout_ms,
            command.memo,
            command.attributes,
            command.summary,
            command.priority,
        )
    ]


def _cancel_child(view: View, place: TurnPlace, command: c.CancelChild) -> list[e.Body]:
    if view.get(STEPS, step_key(place.workflow_id, place.run_id, command.child)) is None:
        return []
    return [e.ChildCancelRequested(place.turn, command.child)]


def _send_signal(view: View, place: TurnPlace, command: c.SendSignal) -> list[e.Body]:
    return [e.SignalSent(place.turn, *command)]


def _send_cancel(view: View, place: TurnPlace, command: c.SendCancel) -> list[e.Body]:
    return [e.CancelSent(place.turn, *command)]


def _await_event(view: View, place: TurnPlace, command: c.AwaitEvent) -> list[e.Body]:
    return [e.EventAwaited(place.turn, *command)]


def _publish_event(view: View, place: TurnPlace, command: c.PublishEvent) -> list[e.Body]:
    return [e.EventPublished(place.turn, *command)]


def _ask_approval(view: View, place: TurnPlace, command: c.AskApproval) -> list[e.Body]:
    digest = digest_of(command.name, command.request, command.to)
    return [e.ApprovalAsked(place.turn, *command[:-1], digest, command.call_site)]


def _withdraw_approval(view: View, place: TurnPlace, command: c.WithdrawApproval) -> list[e.Body]:
    # Its answer may have come in this batch, and the code not have heard of it yet.
    if view.get(APPROVALS, step_key(place.workflow_id, place.run_id, command.approval)) is None:
        return []
    return [e.ApprovalWithdrawn(place.turn, command.approval)]


def _cancel_wait(view: View, place: TurnPlace, command: c.CancelWait) -> list[e.Body]:
    # Its event may have come in this batch, and the code not have heard of it yet.
    if not isinstance(view.get(STEPS, step_key(place.workflow_id, place.run_id, command.wait)), WaitRow):
        return []
    return [e.WaitCancelled(place.turn, command.wait)]


def _complete_update(view: View, place: TurnPlace, command: c.CompleteUpdate) -> list[e.Body]:
    return [e.UpdateCompleted(place.turn, *command)]


def _record_patch(view: View, place: TurnPlace, command: c.RecordPatch) -> list[e.Body]:
    return [e.RunPatched(place.turn, *command)]


def _annotate_run(view: View, place: TurnPlace, command: c.AnnotateRun) -> list[e.Body]:
    return [e.RunAnnotated(place.turn, *command)]


def _change_entity(view: View, place: TurnPlace, command: c.ChangeEntity) -> list[e.Body]:
    return [e.EntityChanged(place.turn, command.state)]


def _complete_run(view: View, place: TurnPlace, command: c.CompleteRun) -> list[e.Body]:
    return [e.RunCompleted(place.turn, command.result)]


def _fail_run(view: View, place: TurnPlace, command: c.FailRun) -> list[e.Body]:
    return [e.RunFailed(place.turn, command.failure)]


def _cancel_run(view: View, place: TurnPlace, command: c.CancelRun) -> list[e.Body]:
    return [e.RunCancelled(place.turn)]


def _park_run(view: View, place: TurnPlace, command: c.ParkRun) -> list[e.Body]:
    return [e.RunParked(command.kind, command.message, command.call_site)]


def _continue_as_new(view: View, place: TurnPlace, command: c.ContinueAsNew) -> list[e.Body]:
    new_run_id = ids.next_run_id(place.run_id, place.turn)
    return [e.RunContinuedAsNew(place.turn, command.arguments, new_run_id)]


DECIDE_TURN: Mapping[type, Callable[[View, TurnPlace, Any], list[e.Body]]] = {
    c.ScheduleStep: _schedule_step,
    c.CancelStep: _cancel_step,
    c.SetTimer: _set_timer,
    c.CancelTimer: _cancel_timer,
    c.StartChild: _start_child,
    c.CancelChild: _cancel_child,
    c.SendSignal: _send_signal,
    c.SendCancel: _send_cancel,
    c.CompleteUpdate: _complete_update,
    c.RecordPatch: _record_patch,
    c.AnnotateRun: _annotate_run,
    c.ChangeEntity: _change_entity,
    c.AwaitEvent: _await_event,
    c.CancelWait: _cancel_wait,
    c.AskApproval: _ask_approval,
    c.WithdrawApproval: _withdraw_approval,
    c.PublishEvent: _publish_event,
    c.CompleteRun: _complete_run,
    c.FailRun: _fail_run,
    c.CancelRun: _cancel_run,
    c.ContinueAsNew: _continue_as_new,
    c.ParkRun: _park_run,
}


def decide_turn(view: View, place: TurnPlace, command: c.TurnCommand, context: Context) -> list[Draft]:
    """One command of a turn; the events before it are applied already."""
    bodies = DECIDE_TURN[type(command)](view, place, command)
    drafts = [Draft(place.workflow_id, place.run_id, body) for body in bodies]
    if isinstance(command, c.ContinueAsNew):
        drafts += [_next_run(place, command, context), *_carried(view, place, command)]
    return drafts


def needs_of_next(run: RunRow, commands: Sequence[c.TurnCommand], context: Context) -> tuple[LimitNeed, ...]:
    """What the run needs that a turn with these commands goes on as, by its arguments and the newest code.

    To be asked before anything of the turn is recorded: it raises KeyFailed.
    """
    for command in commands:
        if isinstance(command, c.ContinueAsNew):
            known = context.code_of(run.workflow_type, 0)
            return needs_of(known, command.arguments, priority_of(run.limits)) if known else run.limits
    return ()


def _next_run(place: TurnPlace, command: c.ContinueAsNew, context: Context) -> Draft:
    run = place.run
    new_run_id = ids.next_run_id(place.run_id, place.turn)
    known = context.code_of(run.workflow_type, 0)
    started = e.RunStarted(
        workflow_type=run.workflow_type,
        version=known.version if known else run.version,
        arguments=command.arguments,
        seed=ids.seed(new_run_id),
        code=known.identity if known else run.code,
        parent=run.parent,
        previous_run_id=place.run_id,
        memo=run.memo,
        attributes=run.attributes,
        summary=run.summary,
        run_timeout_ms=run.run_timeout_ms,
        execution_ends_ms=run.execution_ends_ms,
        limits=place.next_needs,
        heard=command.heard,
        suggest_at=context.suggest_at,
    )
    return Draft(place.workflow_id, new_run_id, started)


def _carried(view: View, place: TurnPlace, command: c.ContinueAsNew) -> list[Draft]:
    """What came to this run and its code has not taken goes on to the next one, in its order: signals, and a request
    to cancel that was recorded behind the delivery of this turn."""
    key = (place.workflow_id, place.run_id)
    new_run_id = ids.next_run_id(place.run_id, place.turn)
    given = [view.get(HISTORY, history_key(*key, seq)) for seq in command.untaken]
    unseen = [record for _, record in view.scan(HISTORY, key, after=history_key(*key, place.turn))]
    bodies: list[e.Body] = []
    for body in (record.event.body for record in (*given, *unseen)):
        if isinstance(body, e.SignalReceived):
            bodies.append(body)
        elif isinstance(body, e.CancelRequested):
            bodies.append(body)
            if place.next_needs:
                # Its code has not begun, and need not begin in order to end.
                bodies.append(e.RunCancelled(0))
                break
    return [Draft(place.workflow_id, new_run_id, body) for body in bodies]


def in_order(commands: Sequence[c.TurnCommand]) -> list[c.TurnCommand]:
    """The end of the run comes last: nothing follows a terminal event (I2)."""
    ends = (c.CompleteRun, c.FailRun, c.CancelRun, c.ContinueAsNew)
    return [command for command in commands if not isinstance(command, ends)] + [
        command for command in commands if isinstance(command, ends)
    ]
