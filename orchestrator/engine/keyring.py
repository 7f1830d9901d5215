"""Whose commands count as verified: the application's key ring (docs/adr/0032-signed-commands.md)."""

from __future__ import annotations

import logging

from ..core.signatures import SIGNATURE_HEADER, command_bytes, in_time, parse_signature
from ..core.tasks import Reply
from ..log.ports import Wire
from .options import EngineOptions

log = logging.getLogger(__name__)

NOT_VERIFIED = "not_verified"


def signed_of(wire: Wire) -> str:
    """The text of a record's signature header; "" when it has none."""
    return next((value.decode("ascii", "replace") for name, value in wire.headers if name == SIGNATURE_HEADER), "")


class KeyRing:
    """Judges the records of one application. `required`: only verified ones are taken."""

    def __init__(self, app: str, options: EngineOptions) -> None:
        self._app = app
        self._keys = options.signatures.keys
        self._horizon_ms = options.dedup_horizon_ms
        self.required = options.signatures.required

    def doubt(self, wire: Wire) -> str:
        """Why nobody knows who sent a command; "" when a key of the ring signed it."""
        if self._keys is None:
            return "this application has no key ring"
        text = signed_of(wire)
        if not text:
            return "it is not signed"
        doubt = self._doubt(wire, text)
        if doubt:
            log.warning("%s/%d offset %d is not verified: %s", wire.topic, wire.partition, wire.offset, doubt)
        return doubt

    def _doubt(self, wire: Wire, text: str) -> str:
        signed = parse_signature(text)
        if signed is None:
            return f"its header {SIGNATURE_HEADER} is not one of ours"
        if not in_time(signed.signed_at_ms, wire.timestamp_ms, self._horizon_ms):
            return f"it was signed at {signed.signed_at_ms}, and sent at {wire.timestamp_ms}: too far apart"
        assert self._keys is not None
        data = command_bytes(self._app, signed.signed_at_ms, wire.value)
        return self._keys.problem(signed.key_id, signed.signature, data)


def turned_away(command_id: str, workflow_id: str, doubt: str) -> Reply:
    """The answer to a command that is not taken because nobody knows who sent it. Its id stays free."""
    message = (
        f"this application takes only commands that a key of its ring signed, and {doubt}: set ORCHESTRATOR_SIGNING_KEY"
        " to a key whose public half is in the engines' ring"
    )
    return Reply(command_id, workflow_id, "", "rejected", NOT_VERIFIED, message)
