"""A child's outcome, as its engine reports it to the parent's partition."""

from __future__ import annotations

from ..commands import Command, ReportChild
from ..events import ChildCompleted, ChildFailed, ChildStarted
from ..rows import STEPS, ChildRow, step_key
from ..values import Failure
from . import schedule
from .decision import Context, Draft, View, caused, rejected


def report_child(view: View, command: Command, body: ReportChild, context: Context) -> list[Draft]:
    """An outcome for a closed run, or a second one, is a recorded rejection."""
    if schedule.row_of(view, command.workflow_id) is not None:
        return schedule.run_reported(view, command, body, context)
    row = view.get(STEPS, step_key(command.workflow_id, body.run_id, body.step))
    if not isinstance(row, ChildRow):
        message = f"{command.workflow_id}/{body.run_id} waits for no child at {body.step}"
        return rejected(command, context, "stale_attempt", message, body.run_id)
    cause = caused(command, context)
    if body.outcome == "started":
        return [Draft(command.workflow_id, body.run_id, ChildStarted(body.step, body.child_run_id), cause)]
    if body.outcome == "completed":
        return [Draft(command.workflow_id, body.run_id, ChildCompleted(body.step, body.result), cause)]
    failure = body.failure or Failure("ChildFailed", f"the child is {body.outcome}", retryable=False)
    return [Draft(command.workflow_id, body.run_id, ChildFailed(body.step, body.outcome, failure), cause)]
