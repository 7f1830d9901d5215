"""Approvals: workflow code asks people, and waits for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from ..codec.payloads import adapter
from ..core.approvals import ApprovalDecided, ApprovalExpired
from ..errors import ConfigurationError
from .calls import ApprovalCalled
from .messages import inside


@dataclass(frozen=True)
class Approval:
    """The answer. It is true when the question was approved.

    `by` is who answered, as the answer says, or else the id of the command's actor; `digest` names what exactly was
    answered.
    """

    outcome: Literal["approved", "rejected", "expired"]
    by: str = ""
    comment: str = ""
    digest: str = ""
    at: datetime | None = None

    def __bool__(self) -> bool:
        return self.outcome == "approved"


async def approval(
    name: str, request: Any = None, *, to: str | Sequence[str] = (), expires: timedelta | None = None
) -> Approval:
    """From workflow code: ask whether `request` (plain JSON) may be done, and wait for the answer.

    It stands in the inbox (`client.approvals`, `orchestrator approval list`) until somebody answers, `expires` is
    over, or the code no longer waits. `to` names whom it is for: an address to look by, not a right.
    """
    loop = inside(f"approval {name!r}")
    if not name:
        raise ConfigurationError("an approval has a name: what is to be approved")
    expires_ms = 0 if expires is None else max(1, round(expires.total_seconds() * 1000))
    if expires is not None and expires <= timedelta(0):
        raise ConfigurationError(f"approval {name!r}: expires={expires} is over before anybody can answer")
    payload, _ = adapter(Any).round_trip(request, f"request of approval {name}", loose=True)
    addressees = (to,) if isinstance(to, str) else tuple(to)
    answer: ApprovalDecided | ApprovalExpired = await ApprovalCalled(loop, name, payload, addressees, expires_ms)
    at = datetime.fromtimestamp(loop.now_ms / 1000, UTC)
    if isinstance(answer, ApprovalExpired):
        return Approval("expired", at=at)
    said: Literal["approved", "rejected"] = "approved" if answer.approved else "rejected"
    return Approval(said, answer.by or answer.actor.id, answer.comment, answer.digest, at)
