"""Decisions about schedules: what a firing does while the last run still works, what was missed, what runs next."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import ConfigurationError
from .. import calendars
from ..commands import (
    BackfillSchedule,
    Command,
    CreateSchedule,
    DeleteSchedule,
    FireTimer,
    PauseSchedule,
    ReportChild,
    StartWorkflow,
    TriggerSchedule,
)
from ..events import CommandRejected, ScheduleCreated, ScheduleDeleted, ScheduleFired, SchedulePaused, ScheduleRunEnded
from ..invariants import CLOSED
from ..rows import SCHEDULES, ScheduleRow, schedule_key
from ..schedules import MAX_BUFFERED, OVERLAPS, PREFIX, Due
from ..values import NO_CAUSE, Cause
from .decision import Context, Draft, View, accepted, caused, current_run, rejected
from .fields import bad_duration

MAX_BACKFILL = 1_000


def row_of(view: View, name: str) -> ScheduleRow | None:
    """A schedule by the key of its commands."""
    row: ScheduleRow | None = view.get(SCHEDULES, schedule_key(name))
    return row


def next_due(spec: calendars.ScheduleSpec, name: str, after_ms: int) -> Due:
    """When a schedule fires after a nominal time."""
    nominal = calendars.next_time(spec, after_ms)
    if nominal is None:
        return Due()
    return Due(nominal, calendars.with_jitter(spec, name.removeprefix(PREFIX), nominal))


def create_schedule(view: View, command: Command, body: CreateSchedule, context: Context) -> list[Draft]:
    """Make a schedule; an id that is taken, or a spec that never comes due, is refused."""
    name = command.workflow_id
    if not name.startswith(PREFIX) or name == PREFIX:
        return rejected(command, context, "bad_request", f"a schedule's key is {PREFIX!r} and its id, not {name!r}")
    if row_of(view, name) is not None:
        return rejected(command, context, "already_exists", f"{name}: delete it first, or choose another id")
    if body.policy.overlap not in OVERLAPS:
        return _bad_overlap(command, context, body.policy.overlap)
    try:
        calendars.check(body.spec)
    except ConfigurationError as error:
        return rejected(command, context, "bad_request", f"{name}: {error}")
    for what in ("execution_timeout_ms", "run_timeout_ms"):
        if problem := bad_duration(what, getattr(body.action, what)):
            return rejected(command, context, "bad_request", f"{name}: {problem}")
    due = Due() if body.paused else next_due(body.spec, name, context.now_ms)
    created = ScheduleCreated(body.spec, body.action, body.policy, body.paused, body.note, due, command.actor)
    return [Draft(name, "", created, caused(command, context))]


def pause_schedule(view: View, command: Command, body: PauseSchedule, context: Context) -> list[Draft]:
    """Pause or go on; what came due meanwhile is not made up for: back-fill does that."""
    row = row_of(view, command.workflow_id)
    if row is None:
        return _unknown(command, context)
    due = Due() if body.paused else next_due(row.spec, command.workflow_id, context.now_ms)
    paused = SchedulePaused(body.paused, body.note, due, command.actor)
    return [Draft(command.workflow_id, "", paused, caused(command, context))]


def trigger_schedule(view: View, command: Command, body: TriggerSchedule, context: Context) -> list[Draft]:
    """Fire now; a paused schedule too."""
    row = row_of(view, command.workflow_id)
    if row is None:
        return _unknown(command, context)
    if body.overlap and body.overlap not in OVERLAPS:
        return _bad_overlap(command, context, body.overlap)
    nominal = context.now_ms
    while nominal in row.running or nominal in row.buffered or any(one.nominal_ms == nominal for one in row.recent):
        nominal += 1
    return _fire(command.workflow_id, row, [nominal], body.overlap, caused(command, context))


def backfill_schedule(view: View, command: Command, body: BackfillSchedule, context: Context) -> list[Draft]:
    """Fire for the nominal times of a range; more than MAX_BACKFILL are refused, so that one batch holds them."""
    row = row_of(view, command.workflow_id)
    if row is None:
        return _unknown(command, context)
    if body.overlap not in OVERLAPS:
        return _bad_overlap(command, context, body.overlap)
    if not (abs(body.start_ms) <= calendars.LAST_MS and abs(body.end_ms) <= calendars.LAST_MS):
        message = f"{command.workflow_id}: a range from {body.start_ms} to {body.end_ms}: no such times"
        return rejected(command, context, "bad_request", message)
    found: list[int] = []
    at = calendars.next_time(row.spec, body.start_ms - 1)
    while at is not None and at <= body.end_ms and len(found) <= MAX_BACKFILL:
        found.append(at)
        at = calendars.next_time(row.spec, at)
    if len(found) > MAX_BACKFILL:
        message = f"{command.workflow_id}: more than {MAX_BACKFILL} times in this range; back-fill a shorter one"
        return rejected(command, context, "bad_request", message)
    if not found:
        return accepted(command, context, "nothing", "no time of the schedule lies in this range", "")
    return _fire(command.workflow_id, row, found, body.overlap, caused(command, context))


def delete_schedule(view: View, command: Command, body: DeleteSchedule, context: Context) -> list[Draft]:
    """Forget it."""
    if row_of(view, command.workflow_id) is None:
        return _unknown(command, context)
    return [Draft(command.workflow_id, "", ScheduleDeleted(command.actor), caused(command, context))]


def due(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """A schedule's time has come. What lies further back than the catch-up window is left out in one step."""
    row = row_of(view, workflow_id)
    if row is None or row.paused or row.due.at_ms != timer.due_at_ms:
        return []
    oldest = context.now_ms - row.policy.catchup_window_ms
    if row.due.nominal_ms < oldest:
        missed = ScheduleFired(row.due.nominal_ms, "missed", next_due(row.spec, workflow_id, oldest - 1))
        return [Draft(workflow_id, "", missed)]
    following = next_due(row.spec, workflow_id, row.due.nominal_ms)
    return _fire(workflow_id, row._replace(due=following), [row.due.nominal_ms], "", NO_CAUSE)


def run_reported(view: View, command: Command, body: ReportChild, context: Context) -> list[Draft]:
    """The run of a firing began, or closed: then the oldest firing that waits for it may start."""
    row = row_of(view, command.workflow_id)
    assert row is not None
    if not (body.step.isascii() and body.step.isdigit() and len(body.step) < 20):
        return rejected(command, context, "stale_attempt", f"{command.workflow_id} has no firing {body.step[:100]!r}")
    nominal = int(body.step)
    if body.outcome == "started" or nominal not in row.running:
        return accepted(command, context, "noted", f"the run of {nominal} is {body.outcome}", body.child_run_id)
    ended = ScheduleRunEnded(nominal, body.outcome)
    drafts = [Draft(command.workflow_id, "", ended, caused(command, context))]
    if row.buffered and row.running == (nominal,):
        drafts.append(Draft(command.workflow_id, "", ScheduleFired(row.buffered[0], "started", row.due)))
    return drafts


def started_before(view: View, command: Command, context: Context) -> list[Draft]:
    """A start that came before. A firing that was made twice (back-filled again, say) is told that its run has ended.

    Nothing of its run would report any more, and the schedule would wait for that end for ever.
    """
    body = command.body
    if not isinstance(body, StartWorkflow) or body.parent is None or not body.parent.workflow_id.startswith(PREFIX):
        return []
    run_id, run = current_run(view, command.workflow_id)
    if run is not None and run.status not in CLOSED and run.parent == body.parent:
        return []
    message = f"{command.workflow_id}: this firing of {body.parent.workflow_id} had its run, which has ended"
    refused = CommandRejected("StartWorkflow", "already_closed", message, body.parent)
    return [Draft(command.workflow_id, run_id, refused, caused(command, context, answers=False))]


def _fire(name: str, row: ScheduleRow, times: Iterable[int], overlap: str, cause: Cause) -> list[Draft]:
    overlap = overlap or row.policy.overlap
    drafts: list[Draft] = []
    working, waiting = bool(row.running), len(row.buffered)
    for nominal in times:
        outcome, ends = _outcome(overlap, working, waiting)
        working = working or outcome == "started"
        waiting += outcome == "buffered"
        drafts.append(Draft(name, "", ScheduleFired(nominal, outcome, row.due, ends), NO_CAUSE if drafts else cause))
    return drafts


def _outcome(overlap: str, working: bool, waiting: int) -> tuple[str, str]:
    """(what becomes of a firing, what is asked of the runs that still work)."""
    if not working or overlap == "allow_all":
        return "started", ""
    if overlap in ("cancel_other", "terminate_other"):
        return "buffered", overlap.removesuffix("_other")
    room = {"skip": 0, "buffer_one": 1, "buffer_all": MAX_BUFFERED}[overlap]
    return ("buffered" if waiting < room else "skipped"), ""


def _unknown(command: Command, context: Context) -> list[Draft]:
    return rejected(command, context, "not_found", f"{command.workflow_id}: no such schedule")


def _bad_overlap(command: Command, context: Context, overlap: str) -> list[Draft]:
    return rejected(command, context, "bad_request", f"overlap {overlap!r}: one of {', '.join(OVERLAPS)}")
