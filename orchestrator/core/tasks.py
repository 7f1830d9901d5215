"""What leaves for workers, callers and auditors: offers of steps, replies, dead letters, signed heads."""

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
    on_crash: str = "retry"


class StopStep(NamedTuple):
    """To the worker that holds an attempt, at its reply address: end it.

    `over`: the attempt has its outcome already, no result is wanted any more. Else its report still counts.
    """

    workflow_id: str
    run_id: str
    step: str
    attempt: int
    token: str
    over: bool
    why: str


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
    """A record sent on byte for byte; `hop` and `signed` are its headers, if any."""

    value: bytes
    hop: str = ""
    signed: str = ""


class Anchor(NamedTuple):
    """A signed head of an events partition: which footer stood at which offset, and when that was signed.

    The signature is Ed25519 over the text "orchestrator.anchor.v1" and then every field before `key_id`, in order:
    its length (four bytes, big-endian) and its bytes. Texts are UTF-8, numbers their decimal digits, the hash its 32
    bytes. `key_id` is the first 16 hex digits of SHA-256 of the raw public key.
    """

    cluster_id: str
    topic_id: str
    partition: int
    offset: int
    claim_no: int
    batch_no: int
    footer_hash: bytes
    time_ms: int
    key_id: str = ""
    signature: bytes = b""
