"""Replies that refuse, as typed errors."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.core.tasks import Reply
from orchestrator.errors import (
    CommandRejected,
    NotVerified,
    Overloaded,
    RunClosed,
    UpdateRejected,
    WorkflowAlreadyClosed,
    WorkflowAlreadyRunning,
    WorkflowNotFound,
)

BY_CODE: Mapping[str, type[CommandRejected]] = MappingProxyType(
    {
        "already_running": WorkflowAlreadyRunning,
        "already_closed": WorkflowAlreadyClosed,
        "not_found": WorkflowNotFound,
        "no_such_run": WorkflowNotFound,
        "run_closed": RunClosed,
        "overloaded": Overloaded,
        "not_verified": NotVerified,
        "update_rejected": UpdateRejected,
    }
)
"""Codes with an error of their own; every other code is a CommandRejected."""


def rejection(reply: Reply) -> CommandRejected:
    """The error that a rejected reply stands for."""
    kind = BY_CODE.get(reply.code, CommandRejected)
    message = reply.message or f"the command was refused: {reply.code or 'no reason given'}"
    error = kind(
        message,
        code=reply.code,
        workflow_id=reply.workflow_id,
        run_id=reply.run_id,
        command_id=reply.command_id,
    )
    if isinstance(error, UpdateRejected):
        error.failure = reply.failure
    return error
