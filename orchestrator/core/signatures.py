"""Signed commands: what a producer's signature covers, and the header that it travels in (docs/security.md).

Kafka never tells a consumer who produced a record. A signature of a key of the application's key ring does.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .commands import Command, DeliverEvent
from .values import Actor

COMMAND_TAG = b"orchestrator.command.v1"
SIGNATURE_HEADER = "orchestrator-signature"
_TEXT = re.compile(r"([0-9a-f]{16}) ([0-9]{1,19}) ([0-9a-f]{128})", re.ASCII)
VERIFIED, CLAIMED = "verified", "claimed"
AHEAD_MS = 3_600_000
"""How far the clock of whoever signs may be ahead of the brokers', and what a signature's life ends before dedup's."""


class Signature(NamedTuple):
    """Whose key, when (milliseconds since 1970, UTC), and the 64 bytes of Ed25519."""

    key_id: str
    signed_at_ms: int
    signature: bytes

    def encode(self) -> str:
        """As a record header: `9f86d081884c7d65 1764412345678 1f0c…`, the bytes in hex."""
        return f"{self.key_id} {self.signed_at_ms} {self.signature.hex()}"


def parse_signature(text: str) -> Signature | None:
    """The inverse of `Signature.encode`; None for anything else."""
    # Anybody may fill a header, and messages repeat the key's id.
    found = _TEXT.fullmatch(text)
    return Signature(found[1], int(found[2]), bytes.fromhex(found[3])) if found is not None else None


def command_bytes(app: str, signed_at_ms: int, value: bytes) -> bytes:
    """What a command's signature covers: for which application, when, and the record's value as on the wire."""
    parts = [COMMAND_TAG]
    for data in (app.encode(), str(signed_at_ms).encode(), value):
        parts += [len(data).to_bytes(4, "big"), data]
    return b"".join(parts)


def in_time(signed_at_ms: int, appended_at_ms: int, dedup_horizon_ms: int) -> bool:
    """Whether a record may have been sent by whoever signed it, by the broker's clock.

    A copy that comes while its id is remembered changes nothing; one that comes later was signed too long ago.
    """
    return -AHEAD_MS <= appended_at_ms - signed_at_ms <= dedup_horizon_ms - AHEAD_MS


def attested(command: Command, verified: bool) -> Command:
    """The command with what is known of its actors, whatever it says of them itself."""
    authn = VERIFIED if verified else CLAIMED
    if command.actor.authn != authn:
        command = command._replace(actor=command.actor._replace(authn=authn))
    body = command.body
    if isinstance(body, DeliverEvent) and not verified and body.sender.authn != CLAIMED:
        # Whom an engine vouches for counts as long as the engine itself is known.
        command = command._replace(body=body._replace(sender=body.sender._replace(authn=CLAIMED)))
    return command


def named(actor: Actor) -> str:
    """An actor for people: `person ada for bob via web (verified)`."""
    parts = [actor.kind, actor.id]
    parts += ["for", actor.on_behalf_of] if actor.on_behalf_of else []
    parts += ["via", actor.via] if actor.via else []
    return f"{' '.join(part for part in parts if part)} ({actor.authn})"
