"""An update before it is decided: the run's code judges it, and what it refuses leaves nothing on the log."""

from __future__ import annotations

from ..codec.payloads import encode_failure
from ..core.commands import Command, UpdateWorkflow
from ..core.decide.decision import current_run
from ..core.rows import UPDATES, update_key
from ..core.tasks import Reply
from ..errors import BlobError
from ..store.large import bytes_of
from .batch import Batch
from .builder import Builder
from .turns import Turns

NOT_YET = "not_ready"
"""The outcome of an update whose run is still being replayed: its caller sends it again, with the same id."""


def refusal(builder: Builder, turns: Turns, batch: Batch, command: Command, body: UpdateWorkflow) -> Reply | None:
    """Let the run's code, after the turns that it still owes, judge an update. None: it is to be decided."""
    view, woken = builder.overlay, ""
    while True:
        run_id, run = current_run(view, command.workflow_id, body.run_id)
        if run is None or view.get(UPDATES, update_key(command.workflow_id, run_id, command.id)) is not None:
            return None
        if run_id == woken:
            break
        if woken and not batch.has_room():
            return _not_yet(command, run_id)
        # It may go on as a new run in a turn that it owes: then that one is who is asked.
        builder.wake(batch, (command.workflow_id, run_id))
        woken = run_id
    if run.status != "running":
        return None
    key = (command.workflow_id, run_id)
    said = Reply(command.id, command.workflow_id, run_id, "rejected")
    if not turns.has_code(key, run):
        what = f"{run.workflow_type} version {run.version}"
        return said._replace(code="no_code", message=f"this engine lacks the code of {what}: send the update again")
    if turns.owes(key) or builder.careful.doubts(key, run):
        return _not_yet(command, run_id)
    try:
        payload = bytes_of(body.payload, turns.blobs, f"{command.workflow_id}, what update {body.name} was sent with")
        if turns.ask(view, key, run, lambda live: live.talk.judge(body.name, payload)) is None:
            return _not_yet(command, run_id)
    except BlobError as error:
        return said._replace(code="blob", message=str(error))
    except LookupError as error:
        return said._replace(code="unknown_update", message=str(error.args[0]))
    except Exception as error:
        # Whatever a validator raises is the caller's to see; the run is untouched.
        failure = encode_failure(error, turns.registry.errors)
        return said._replace(code="update_rejected", message=f"{failure.type}: {failure.message}", failure=failure)
    return None


def _not_yet(command: Command, run_id: str) -> Reply:
    message = "its run's code is not there yet: send it again"
    return Reply(command.id, command.workflow_id, run_id, NOT_YET, code=NOT_YET, message=message)
