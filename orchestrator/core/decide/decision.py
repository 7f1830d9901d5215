"""What `decide` takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from .. import ids
from ..commands import Command, StartWorkflow
from ..events import SUGGEST_AT, Body, CommandAccepted, CommandRejected
from ..invariants import CLOSED as CLOSED
from ..rows import RUNS, Key, RunRow, current_key, run_key
from ..schedules import PREFIX
from ..values import NO_CAUSE, Actor, Cause, CodeIdentity, LimitNeed, Payload


class View(Protocol):
    """Rows by family and key, as of the last applied event."""

    def get(self, family: str, key: Key) -> Any:
        """The row, or None."""

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        """Rows whose key starts with `prefix`, in key order, beginning behind `after` if given."""


def _no_limits(arguments: Payload, priority: int) -> tuple[LimitNeed, ...]:
    return ()


def _no_limit(name: str) -> LimitNeed | None:
    return None


class Known(NamedTuple):
    """Code that this owner has: the version a new run is pinned to, its identity, and the limits of a start."""

    version: int
    identity: CodeIdentity
    limits: Callable[[Payload, int], tuple[LimitNeed, ...]] = _no_limits


class KeyFailed(Exception):
    """What a run needs of its limits cannot be told: the key, a function of the user's code, raised or is not here."""


def needs_of(known: Known, arguments: Payload, priority: int) -> tuple[LimitNeed, ...]:
    """What a run needs before its code begins. Raises KeyFailed."""
    try:
        return known.limits(arguments, priority)
    except Exception as error:
        raise KeyFailed(f"what it needs of its limits: {type(error).__name__}: {error}") from error


def priority_of(limits: tuple[LimitNeed, ...]) -> int:
    """The one that whoever has these needs was started with."""
    return limits[0].priority if limits else 0


class Context(NamedTuple):
    """Everything a decision needs beside state: time, names, and which code this owner has.

    `code_of(type, version)` is None when the owner lacks it; version 0 asks for the newest.
    `input` is where the command was read: (topic, partition, offset). `is_local`: an outcome of a step of this process.
    `any_attempt` is a sabotage switch of the tests: stale results are taken. `partitions`: how many the topics have
    now, known only to a change of routing. `level`: the feature level that these events may be written at.
    `suggest_at` goes into the start of a run. `limit_of(name)`: a limit as the owner's code declares it, if it does.
    """

    app: str
    now_ms: int
    code_of: Callable[[str, int], Known | None]
    input: tuple[str, int, int] = ("", -1, -1)
    is_local: bool = False
    any_attempt: bool = False
    partitions: int = 0
    level: int = 1
    suggest_at: int = SUGGEST_AT
    limit_of: Callable[[str], LimitNeed | None] = _no_limit


class Draft(NamedTuple):
    """An event to be: its place (`seq`, hashes) is given when it is sealed."""

    workflow_id: str
    run_id: str
    body: Body
    cause: Cause = NO_CAUSE
    original_ms: int = 0


def caused(command: Command, context: Context, answers: bool = True) -> Cause:
    """The cause of an event that a command led to. Reports of this process's own steps have no command to answer."""
    if context.is_local:
        return NO_CAUSE
    topic, partition, offset = context.input
    return Cause(command.id, topic, partition, offset, answers, command.reply_to if answers else None)


def asked_by(command: Command) -> Actor:
    """Whom a run's history names.

    A schedule's command says `engine`, under the schedule's key: what is queued follows from firings that are recorded
    already, and has to be the same at every restore.
    """
    actor = command.actor
    is_schedule = actor.kind == "engine" and actor.id.startswith(PREFIX)
    return actor._replace(kind="schedule") if is_schedule else actor


def rejected(command: Command, context: Context, code: str, message: str, run_id: str = "") -> list[Draft]:
    """The recorded refusal of a command."""
    parent = command.body.parent if isinstance(command.body, StartWorkflow) else None
    body = CommandRejected(type(command.body).__name__, code, message, parent)
    return [Draft(command.workflow_id, run_id, body, caused(command, context))]


def accepted(command: Command, context: Context, code: str, message: str, run_id: str) -> list[Draft]:
    """The record of a command that was fulfilled without an event of a run."""
    body = CommandAccepted(type(command.body).__name__, code, message)
    return [Draft(command.workflow_id, run_id, body, caused(command, context))]


def begun_before(view: View, command: Command, context: Context) -> tuple[str, list[Draft]]:
    """(id of the run that the command begins, []), or with the answer if it has begun that run already.

    A command's answer is forgotten before a run that it began is purged: to begin it again would reopen a history.
    """
    run_id = ids.run_id(context.app, command.workflow_id, command.id)
    if view.get(RUNS, run_key(command.workflow_id, run_id)) is None:
        return run_id, []
    message = f"{command.workflow_id}: run {run_id} was begun by this command before"
    return run_id, accepted(command, context, "already_started", message, run_id)


def no_such_run(workflow_id: str, run_id: str) -> str:
    """What is said of a run that is not in the state; `run_id` "": of a workflow without one."""
    return f"{workflow_id} has no run {run_id}" if run_id else f"{workflow_id}: no such workflow"


def current_run(view: View, workflow_id: str, run_id: str = "") -> tuple[str, RunRow | None]:
    """(run id, its head), of the run named or else the newest one of the workflow."""
    if not run_id:
        current = view.get(RUNS, current_key(workflow_id))
        if current is None:
            return "", None
        run_id = current.run_id
    return run_id, view.get(RUNS, run_key(workflow_id, run_id))
