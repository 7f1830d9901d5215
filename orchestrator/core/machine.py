"""The tables: which function applies which event, which decides which command. Dispatch and nothing else lives here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import commands as c, events as e, invariants
from .apply import approval, child, entity, flow, partition, run, schedule, step, timer, topic, update
from .apply.fold import Changes, Fold, Settings
from .decide import (
    approval as decide_approval,
    child as decide_child,
    entity as decide_entity,
    flow as decide_flow,
    fork as decide_fork,
    level as decide_level,
    routing as decide_routing,
    run as decide_run,
    schedule as decide_schedule,
    step as decide_step,
    timer as decide_timer,
    topic as decide_topic,
    update as decide_update,
)
from .decide.decision import Context, Draft, View
from .rows import (
    DEDUP,
    HISTORY,
    INDEX,
    OUTBOX,
    RUNS,
    DedupRow,
    ExpiryRow,
    IndexRow,
    OutboxRow,
    RunRow,
    changed,
    dedup_key,
    expiry_key,
    history_key,
    index_key,
    outbox_key,
    run_key,
)
from .tasks import Reply

APPLY_RUN: Mapping[type, Callable[[Fold, RunRow, Any], dict[str, Any]]] = {
    e.RunPinned: run.run_pinned,
    e.RunAdmitted: flow.run_admitted,
    e.StepScheduled: step.step_scheduled,
    e.StepAdmitted: step.step_admitted,
    e.StepStarted: step.step_started,
    e.StepLeased: step.step_leased,
    e.StepHeartbeat: step.step_heartbeat,
    e.StepCompleted: step.step_completed,
    e.StepAttemptFailed: step.step_attempt_failed,
    e.StepRetried: step.step_retried,
    e.StepFailed: step.step_failed,
    e.StepInterrupted: step.step_interrupted,
    e.StepParked: step.step_parked,
    e.StepHandedOver: step.step_handed_over,
    e.StepCancelRequested: step.step_cancel_requested,
    e.StepCancelled: step.step_cancelled,
    e.TimerSet: timer.timer_set,
    e.TimerFired: timer.timer_fired,
    e.TimerCancelled: timer.timer_cancelled,
    e.SignalReceived: run.signal_received,
    e.UpdateAccepted: update.update_accepted,
    e.UpdateCompleted: update.update_completed,
    e.CancelRequested: run.cancel_requested,
    e.ChildScheduled: child.child_scheduled,
    e.ChildStarted: child.child_started,
    e.ChildRestarted: child.child_restarted,
    e.ChildCompleted: child.child_completed,
    e.ChildFailed: child.child_failed,
    e.ChildCancelRequested: child.child_cancel_requested,
    e.SignalSent: child.signal_sent,
    e.CancelSent: child.cancel_sent,
    e.EntityAdmitted: entity.entity_admitted,
    e.EntityChanged: entity.entity_changed,
    e.RunPatched: run.run_patched,
    e.RunAnnotated: run.run_annotated,
    e.EventAwaited: topic.event_awaited,
    e.ApprovalAsked: approval.approval_asked,
    e.ApprovalDecided: approval.approval_decided,
    e.ApprovalExpired: approval.approval_expired,
    e.ApprovalWithdrawn: approval.approval_withdrawn,
    e.EventDelivered: topic.event_delivered,
    e.EventPublished: topic.event_published,
    e.WaitCancelled: topic.wait_cancelled,
    e.WaitRestarted: topic.wait_restarted,
    e.RunParked: run.run_parked,
    e.RunResumed: run.run_resumed,
    e.RunPaused: run.run_paused,
    e.RunCompleted: run.run_completed,
    e.RunFailed: run.run_failed,
    e.RunCancelled: run.run_cancelled,
    e.RunTerminated: run.run_terminated,
    e.RunContinuedAsNew: run.run_continued_as_new,
}
"""Every event of a run's history but `RunStarted`, which makes the row."""

APPLY_PARTITION: Mapping[type, Callable[[Fold, Any], None]] = {
    e.CommandRejected: partition.command_rejected,
    e.CommandAccepted: partition.recorded,
    e.InputLost: partition.recorded,
    e.LogAccepted: partition.recorded,
    e.TopicsAdopted: partition.recorded,
    e.LevelChanged: partition.recorded,
    e.SendFailed: partition.recorded,
    e.PartitionClaimed: partition.partition_claimed,
    e.PartitionReleased: partition.partition_released,
    e.TurnAttempted: partition.turn_attempted,
    e.DeadLettered: partition.dead_lettered,
    e.RunPurged: partition.run_purged,
    e.CommandForwarded: partition.command_forwarded,
    e.CommandReturned: partition.command_returned,
    e.RoutingChanged: partition.routing_changed,
    e.ScheduleCreated: schedule.schedule_created,
    e.SchedulePaused: schedule.schedule_paused,
    e.ScheduleFired: schedule.schedule_fired,
    e.ScheduleRunEnded: schedule.schedule_run_ended,
    e.ScheduleDeleted: schedule.schedule_deleted,
    e.SlotsAwaited: flow.slots_awaited,
    e.SlotsMoved: flow.slots_moved,
    e.SlotsGranted: flow.slots_granted,
    e.SlotsReleased: flow.slots_released,
    e.TaskDisplaced: flow.task_displaced,
    e.LimitForgotten: flow.limit_forgotten,
    e.EventSent: topic.event_sent,
    e.EventSubscribed: topic.event_subscribed,
    e.EventMatched: topic.event_matched,
    e.EventUnsubscribed: topic.event_unsubscribed,
    e.EventsExpired: topic.events_expired,
}
"""Every record of the partition but `BatchFooter`, whose offset is known only when it was read back."""

DECIDE: Mapping[type, Callable[[View, c.Command, Any, Context], list[Draft]]] = {
    c.StartWorkflow: decide_run.start_workflow,
    c.SignalWorkflow: decide_run.signal_workflow,
    c.UpdateWorkflow: decide_update.update_workflow,
    c.ForkWorkflow: decide_fork.fork_workflow,
    c.CancelWorkflow: decide_run.cancel_workflow,
    c.TerminateWorkflow: decide_run.terminate_workflow,
    c.RetryWorkflow: decide_run.retry_workflow,
    c.PauseWorkflow: decide_run.pause_workflow,
    c.ResumeWorkflow: decide_run.resume_workflow,
    c.StartStep: decide_step.start_step,
    c.HeartbeatStep: decide_step.heartbeat_step,
    c.ReportStep: decide_step.report_step,
    c.ResolveStep: decide_step.resolve_step,
    c.ReportChild: decide_child.report_child,
    c.ChangeRouting: decide_routing.change_routing,
    c.ChangeLevel: decide_level.change_level,
    c.CreateSchedule: decide_schedule.create_schedule,
    c.PauseSchedule: decide_schedule.pause_schedule,
    c.TriggerSchedule: decide_schedule.trigger_schedule,
    c.BackfillSchedule: decide_schedule.backfill_schedule,
    c.DeleteSchedule: decide_schedule.delete_schedule,
    c.AcquireSlots: decide_flow.acquire_slots,
    c.ReleaseSlots: decide_flow.release_slots,
    c.AdmitTask: decide_flow.admit_task,
    c.SendEvent: decide_topic.send_event,
    c.SubscribeEvent: decide_topic.subscribe_event,
    c.UnsubscribeEvent: decide_topic.unsubscribe_event,
    c.DeliverEvent: decide_topic.deliver_event,
    c.DecideApproval: decide_approval.decide_approval,
}
"""Every command of a topic but `QueryWorkflow`, which is answered and leaves nothing."""

FIRE: Mapping[str, Callable[[View, str, str, c.FireTimer, Context], list[Draft]]] = {
    "sleep": decide_timer.sleep,
    "retry": decide_timer.retry,
    "start": decide_timer.start,
    "run": decide_timer.run_timeout,
    "execution": decide_timer.run_timeout,
    "purge": decide_timer.purge,
    "admit": decide_entity.admit,
    "schedule": decide_schedule.due,
    "limit": decide_flow.due,
    "approval": decide_approval.expired,
    "events": decide_topic.expired,
    "events-match": decide_topic.go_on,
    "lease": decide_timer.lease,
    "start_to_close": decide_timer.step_timeout,
    "schedule_to_close": decide_timer.step_timeout,
    "schedule_to_start": decide_timer.step_timeout,
    "heartbeat": decide_timer.step_timeout,
}
"""Every kind of timer row."""

SILENCE = frozenset({"lease", "heartbeat", "start_to_close", "schedule_to_close", "schedule_to_start"})
"""Timers that judge silence: they fire only after the commands that arrived before their due time were read."""


def decide(view: View, command: c.Command, context: Context) -> list[Draft]:
    """A command's events, or the event of its rejection.

    Pure; a duplicate is not brought here (its answer is a row).
    """
    return DECIDE[type(command.body)](view, command, command.body, context)


def fire(view: View, workflow_id: str, timer: c.FireTimer, context: Context) -> list[Draft]:
    """What a due timer causes; nothing if it no longer means anything."""
    return FIRE[timer.kind](view, workflow_id, timer.run_id, timer, context)


def apply(state: Changes, record: e.Record, settings: Settings) -> None:
    """Fold one event into state: live, at restore and in an audit alike.

    A body without an entry raises KeyError: unknown means stop.
    """
    event = record.event
    fold = Fold(state, event, settings)
    if event.seq:
        _apply_run(fold, record)
    else:
        APPLY_PARTITION[type(event.body)](fold, event.body)
    if event.cause.answers:
        _store_answer(fold)


def apply_footer(state: Changes, record: e.Record, next_offset: int, settings: Settings) -> None:
    """Fold a footer that was read back from the log; `next_offset` is the position behind it."""
    body = record.event.body
    assert isinstance(body, e.BatchFooter)
    partition.batch_footer(Fold(state, record.event, settings), body, record.hash, next_offset)


def _apply_run(fold: Fold, record: e.Record) -> None:
    event = record.event
    body = event.body
    key = run_key(event.workflow_id, event.run_id)
    if isinstance(body, e.RunStarted):
        before = None
        invariants.check_begins(event, fold.state.get(RUNS, key))
        row = run.run_started(fold, body)
        fields: dict[str, Any] = {}
    else:
        before = row = fold.state.get(RUNS, key)
        invariants.check_follows(event, row)
        fold.copied = event.seq <= row.forked_upto
        fields = APPLY_RUN[type(body)](fold, row, body)
    if isinstance(body, e.DELIVERABLE):
        fields["delivered"] = event.seq
    turn: int = getattr(body, "turn", 0)
    if turn:
        fields["turn"] = turn
        fields["attempts"] = 0
    fields["seq"] = event.seq
    fields["head_hash"] = record.hash
    row = changed(row, fields)
    fold.state.put(RUNS, key, row)
    fold.state.put(HISTORY, history_key(event.workflow_id, event.run_id, event.seq), record)
    if before is None or before.status != row.status:
        _index(fold, before, row)


def _index(fold: Fold, before: RunRow | None, after: RunRow) -> None:
    event = fold.event
    if before is not None:
        fold.state.put(INDEX, index_key(before.status, before.started_at_ms, event.workflow_id, event.run_id), None)
    key = index_key(after.status, after.started_at_ms, event.workflow_id, event.run_id)
    fold.state.put(INDEX, key, IndexRow(after.workflow_type, after.started_at_ms))


def answer_of(event: e.Event) -> Reply:
    """The answer that an event gives to the command that caused it."""
    body = event.body
    command_id = event.cause.command_id
    if isinstance(body, e.CommandRejected):
        return Reply(command_id, event.workflow_id, event.run_id, "rejected", body.code, body.message)
    if isinstance(body, e.CommandAccepted):
        return Reply(command_id, event.workflow_id, event.run_id, "accepted", body.code, body.message)
    return Reply(command_id, event.workflow_id, event.run_id, "accepted", type(body).__name__)


def _store_answer(fold: Fold) -> None:
    event = fold.event
    reply = answer_of(event)
    expires = event.recorded_at_ms + fold.settings.dedup_horizon_ms
    fold.state.put(DEDUP, dedup_key(event.workflow_id, reply.command_id), DedupRow(reply, expires))
    fold.state.put(DEDUP, expiry_key(expires, event.workflow_id, reply.command_id), ExpiryRow(reply.command_id))
    if event.cause.reply_to is not None:
        topic, reply_partition = event.cause.reply_to
        key = outbox_key(event.claim_no, event.batch_no, event.batch_index, fold.sent)
        name = topic.removeprefix(f"{fold.settings.app}.")
        fold.state.put(
            OUTBOX, key, OutboxRow(name, reply_partition, reply.command_id, reply, event.workflow_id, event.run_id)
        )
