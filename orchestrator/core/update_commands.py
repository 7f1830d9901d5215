"""Updates as commands: a caller's, and the turn's in which a handler ends."""

from __future__ import annotations

from typing import NamedTuple

from .values import NOTHING, Failure, Payload


class UpdateWorkflow(NamedTuple):
    """Let a run's code change something and answer. The command's id is the update's: it is accepted once a run."""

    name: str
    payload: Payload = NOTHING
    run_id: str = ""


class CompleteUpdate(NamedTuple):
    """The handler of an update ended."""

    update: str
    result: Payload = NOTHING
    failure: Failure | None = None
