"""Approvals that runs wait for: what is asked, and the digest that says what exactly was answered."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from .values import Actor, Payload


class AskApproval(NamedTuple):
    """Workflow code asks somebody to approve, until `expires_at_ms` (log clock) unless that is 0."""

    path: str
    n: int
    name: str
    request: Payload
    to: tuple[str, ...]
    expires_at_ms: int
    call_site: str


class WithdrawApproval(NamedTuple):
    """Workflow code no longer waits for the answer."""

    approval: str


class DecideApproval(NamedTuple):
    """Somebody's answer to what `digest` names. `by`: for whom the actor of the command speaks."""

    run_id: str
    approval: str
    digest: str
    approved: bool
    comment: str = ""
    by: str = ""


class ApprovalAsked(NamedTuple):
    """A question stands, until `expires_at_ms` (log clock) unless that is 0."""

    turn: int
    path: str
    n: int
    name: str
    request: Payload
    to: tuple[str, ...]
    expires_at_ms: int
    digest: str
    call_site: str


class ApprovalDecided(NamedTuple):
    """Who answered what, and how. The `actor` sent the answer; it spoke for `by`, if that is said."""

    approval: str
    approved: bool
    digest: str
    comment: str = ""
    actor: Actor = Actor()
    by: str = ""


class ApprovalExpired(NamedTuple):
    """Nobody answered in time."""

    approval: str


class ApprovalWithdrawn(NamedTuple):
    """Workflow code no longer waits for the answer."""

    turn: int
    approval: str


class ApprovalRow(NamedTuple):
    """A question that stands. Its key: workflow id, run id, the call's identity."""

    name: str
    request: Payload
    to: tuple[str, ...]
    digest: str
    asked_at_ms: int
    expires_at_ms: int = 0


def digest_of(name: str, request: Payload, to: tuple[str, ...]) -> str:
    """SHA-256, in hex, of the question: its name, to whom it goes and what it is about.

    Over a JSON list of the name, the list of addressees, and the SHA-256 of the request's bytes, ASCII, without spaces.
    """
    about = hashlib.sha256(request.data).hexdigest()
    text = json.dumps([name, list(to), about], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
