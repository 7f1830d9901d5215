"""Decisions about updates. The run's code has judged before: what comes here may be written."""

from __future__ import annotations

from ..commands import Command, UpdateWorkflow
from ..events import UpdateAccepted
from ..rows import UPDATES, update_key
from .decision import Context, Draft, View, accepted, caused, current_run, rejected
from .run import open_run


def update_workflow(view: View, command: Command, body: UpdateWorkflow, context: Context) -> list[Draft]:
    """Accept an update, once; after close it is a recorded rejection."""
    found, _ = current_run(view, command.workflow_id, body.run_id)
    if view.get(UPDATES, update_key(command.workflow_id, found, command.id)) is not None:
        return accepted(command, context, "already_accepted", f"update {command.id} was accepted before", found)
    run_id, refusal = open_run(view, command, body.run_id, context)
    if refusal:
        return refusal
    _, run = current_run(view, command.workflow_id, run_id)
    assert run is not None
    if run.status != "running":
        why = f"{command.workflow_id}/{run_id} is {run.status}: its code can answer no update now"
        return rejected(command, context, "not_running", why, run_id)
    taken = UpdateAccepted(command.id, body.name, body.payload, command.actor)
    return [Draft(command.workflow_id, run_id, taken, caused(command, context))]
