"""Signs the commands that a process sends, if it has a key (`ORCHESTRATOR_SIGNING_KEY`)."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..config import Settings
from ..core.signatures import SIGNATURE_HEADER, Signature, command_bytes
from .signing import Signer

Headers = tuple[tuple[str, bytes], ...]
"""As `orchestrator/log/ports.py` has them."""


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def signing_key(settings: Settings) -> Signer | None:
    """The key of a process's settings; None without one. Raises ConfigurationError for a key that cannot be used."""
    path = settings.signing_key
    return Signer.load(path, "signing key", "orchestrator keys create") if path is not None else None


class CommandSigner:
    """The key with which one process signs an application's commands; None signs nothing."""

    def __init__(self, app: str, signer: Signer | None, now_ms: Callable[[], int] = _wall_ms) -> None:
        self._app = app
        self._signer = signer
        self._now_ms = now_ms

    @classmethod
    def of(cls, settings: Settings, app: str) -> CommandSigner:
        """By a process's settings. Raises ConfigurationError for a key that cannot be used."""
        return cls(app, signing_key(settings))

    def headers(self, value: bytes) -> Headers:
        """What goes beside a command's bytes on their way to `<app>.commands`."""
        if self._signer is None:
            return ()
        now_ms = self._now_ms()
        signature = self._signer.sign_bytes(command_bytes(self._app, now_ms, value))
        return ((SIGNATURE_HEADER, Signature(self._signer.key_id, now_ms, signature).encode().encode()),)
