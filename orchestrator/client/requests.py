"""What goes with every command: an id that survives retries, who asks, why, and how long to wait."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from dataclasses import dataclass, replace

from orchestrator.core.values import Actor


def new_command_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, 74 random bits. Made once a call, kept when it is sent again."""
    milliseconds = time.time_ns() // 1_000_000
    bits = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=bits))


CLIENT_ACTOR = Actor(via="client")


@dataclass(frozen=True)
class Request:
    """The envelope of one call. `command_id` "" makes a new one; `timeout_s` 0 is the client's own.

    `trace` is a W3C traceparent; "" is the current span's, if there is one.
    """

    command_id: str = ""
    reason: str = ""
    timeout_s: float = 0.0
    trace: str = ""

    def identified(self) -> Request:
        """With an id: its own, or a new one."""
        return self if self.command_id else replace(self, command_id=new_command_id())

    def workflow_id(self, workflow_type: str) -> str:
        """For a start that names none: the same command, sent again, must mean the same workflow."""
        return f"{workflow_type}-{hashlib.sha256(self.command_id.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class ClientOptions:
    """How a client calls. Times in seconds.

    An unanswered command is sent again, with the same id, every `resend_s`; `result()` asks in long polls of `poll_s`.
    `parked` says what `result()` does when the run stands still: `wait` for a fix, or `raise` RunParked at once.
    """

    actor: Actor = CLIENT_ACTOR
    timeout_s: float = 30.0
    resend_s: float = 3.0
    poll_s: float = 5.0
    parked: str = "wait"


DEFAULT_OPTIONS = ClientOptions()
NO_REQUEST = Request()
