"""Identities: derived, never random, so that every replay finds the same ones."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from urllib.parse import quote, unquote

MAX_WORKFLOW_ID = 1_024
"""Bytes of a workflow id in UTF-8."""
MAX_COMMAND_ID = 1_024
"""Characters of a command's id."""
_SENT = re.compile(r"(?:schedule|event|limits)/.+|.+/\d+/\d+|[0-9a-f]{64}", re.DOTALL)


def _digest(*parts: str) -> str:
    joined = b"".join(len(part := text.encode()).to_bytes(4, "big") + part for text in parts)
    return hashlib.sha256(joined).hexdigest()


def run_id(app: str, workflow_id: str, start_command_id: str) -> str:
    """A run's id from its start command: the same command never starts two runs."""
    return _digest("run", app, workflow_id, start_command_id)[:32]


def next_run_id(previous_run_id: str, seq: int) -> str:
    """The run after continue-as-new, from the previous one and the event that closed it."""
    return _digest("next", previous_run_id, str(seq))[:32]


def seed(run: str) -> str:
    """The seed of a run's random values."""
    return _digest("seed", run)


def step_id(path: str, n: int) -> str:
    """A step's (timer's, child's) identity: task path and creation number, fixed where it is called."""
    return f"{path}:{n}"


def step_token(run: str, step: str, attempt: int) -> str:
    """The token of one attempt; a result with another one is stale."""
    return f"{run}/{step}/{attempt}"


def idempotency_key(workflow_id: str, run: str, step: str) -> str:
    """Stable over attempts: for a step to hand on to whoever it calls."""
    return f"{_quoted(workflow_id)}/{run}/{_quoted(step)}"


def of_idempotency_key(key: str) -> tuple[str, str, str]:
    """Workflow id, run id and step of an idempotency key. Raises ValueError when it is none."""
    workflow_id, run, step = key.split("/")
    return unquote(workflow_id), run, unquote(step)


@lru_cache(maxsize=8_192)
def _quoted(part: str) -> str:
    return quote(part, safe="")


def sent_command_id(workflow_id: str, run: str, seq: int, n: int) -> str:
    """Id of a command that the engine sends for an event: never random, so that a second sending is a duplicate."""
    return "/".join((quote(workflow_id, safe=""), run, str(seq), str(n)))


def within_bounds(command_id: str) -> str:
    """The id of a command that the engine sends: what is named after a long workflow id is its digest."""
    return command_id if len(command_id) <= MAX_COMMAND_ID else _digest("sent", command_id)


def looks_sent(command_id: str) -> bool:
    """Whether an id has a form that engines give to the commands that they send. A caller's may have it, too."""
    return _SENT.fullmatch(command_id) is not None


def child_workflow_id(workflow_id: str, run: str, step: str) -> str:
    """A child's workflow id unless its caller chose one."""
    return f"{workflow_id}/{run[:8]}/{step}"
