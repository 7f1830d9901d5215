"""What leaves by the outbox for workers and callers: offers of steps, replies, dead letters."""

from __future__ import annotations

from typing import NamedTuple

from .values import NOTHING, Failure, Payload


class TaskOffer(NamedTuple):
    """A step offered to the workers of a queue. Only the grant (the reply to `StartStep`) allows acting on it."""

    workflow_id: str
    run_id: str
    step: str
    attempt: int
    token: str
    name: str
    arguments: Payload
    idempotency_key: str
    start_to_close_ms: int = 0
    heartbeat_ms: int = 0
    details: Payload = NOTHING
    trace: str = ""


class Reply(NamedTuple):
    """The answer to a command or query. `outcome` is accepted, rejected, answered or not_ready."""

    command_id: str
    workflow_id: str
    run_id: str
    outcome: str
    code: str = ""
    message: str = ""
    result: Payload = NOTHING
    failure: Failure | None = None


class DeadLetter(NamedTuple):
    """A copy of a dead-lettered input for people: original bytes (or their blob), reason, where from."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes
    value: Payload


class Forward(NamedTuple):
    """A record sent on byte for byte."""

    value: bytes
