"""How much an application takes on: beyond its limits a new start is refused; what has begun always goes on.

A limit is the application's; every partition has an equal share of it, since no owner knows what the others have.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..core.commands import Command, StartWorkflow
from ..core.decide.decision import CLOSED, Draft
from ..core.events import RunStarted
from ..core.rows import RunRow
from ..core.tasks import Reply
from .options import EngineOptions

OVERLOADED = "overloaded"
"""The code of the refusal. It leaves nothing on the log: the same command may be sent again."""


REFUSED = "refused"
"""The code of a start whose name the engine's configuration refuses; it becomes a dead letter."""


def unwanted(options: EngineOptions, command: Command) -> str:
    """Why the configuration refuses what a command would start; "" if it does not."""
    body = command.body
    if isinstance(body, StartWorkflow):
        for pattern in options.refused:
            if fnmatchcase(body.workflow_type, pattern):
                return f"workflow {body.workflow_type!r} is refused here: ORCHESTRATOR_REFUSE names {pattern!r}"
    return ""


class Load:
    """A partition's open runs and their pending steps, counted at the claim and with every event since."""

    def __init__(self) -> None:
        self.runs = 0
        self.steps = 0

    def clear(self) -> None:
        """Before the count at a claim."""
        self.runs = self.steps = 0

    def changed(self, before: RunRow | None, after: RunRow | None) -> None:
        """An event was applied to a run."""
        if before is not None and before.status not in CLOSED:
            self.runs -= 1
            self.steps -= before.pending_steps
        if after is not None and after.status not in CLOSED:
            self.runs += 1
            self.steps += after.pending_steps


def refusal(
    load: Load, options: EngineOptions, partitions: int, command: Command, drafts: Sequence[Draft]
) -> Reply | None:
    """The answer to a start that is one too many; None lets it in.

    Children, schedules and what takes the place of an open run are no more than the application has accepted already.
    """
    body = command.body
    if not isinstance(body, StartWorkflow) or not drafts or not isinstance(drafts[0].body, RunStarted):
        return None
    if body.parent is not None or command.actor.kind == "engine":
        return None
    for what, found, limit in (
        ("open runs", load.runs, options.max_open_runs),
        ("pending steps", load.steps, options.max_pending_steps),
    ):
        share = -(-limit // max(1, partitions))
        if limit and found >= share:
            message = (
                f"the application has {found} {what} on the partition of {command.workflow_id}, its share of {limit} is"
                f" {share}: start it later, with the same command if you like; nothing was recorded"
            )
            return Reply(command.id, command.workflow_id, "", "rejected", OVERLOADED, message)
    return None
