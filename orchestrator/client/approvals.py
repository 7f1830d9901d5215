"""Approvals as callers see them: what stands, and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from orchestrator.core.approvals import DecideApproval
from orchestrator.core.ids import of_idempotency_key
from orchestrator.core.tasks import Reply
from orchestrator.errors import ConfigurationError

from .calls import Calls
from .requests import NO_REQUEST, Request
from .views import JsonObject, json_object


class ApprovalRequest(NamedTuple):
    """A question that a run waits for the answer to. Times are ms of the log's clock; `expires_at_ms` 0: never."""

    id: str
    workflow_id: str
    run_id: str
    name: str
    to: tuple[str, ...]
    request: Any
    digest: str
    asked_at_ms: int
    expires_at_ms: int


class Approvals:
    """The inbox of an application: what waits for an answer, over all runs."""

    def __init__(self, calls: Calls, request: Request = NO_REQUEST) -> None:
        self._calls = calls
        self._request = request

    async def list(self, *, name: str = "", to: str = "") -> AsyncIterator[ApprovalRequest]:
        """What stands now, of a name or for an addressee if they are given, asking every partition."""
        for partition in range(self._calls.caller.partitions):
            async for raw in self._calls.pages("approvals", "approvals", {"name": name, "to": to}, partition):
                yield _request(raw)

    async def describe(self, id: str) -> ApprovalRequest:
        """One of them. Raises CommandRejected (`not_waiting`) when it stands no more, ConfigurationError."""
        workflow_id, run_id, step = _parts(id)
        reply = await self._calls.ask(workflow_id, "approval", {"run_id": run_id, "approval": step})
        return _request(json_object(reply, f"approval {id}"))

    async def approve(self, id: str, digest: str, *, by: str = "", comment: str = "") -> Reply:
        """Say yes to what `digest` names (`ApprovalRequest.digest`), for the person `by`. The first answer counts.

        Raises CommandRejected: `not_waiting` (it was answered, expired or withdrawn), `other_request`; ReplyTimeout.
        """
        return await self._decide(DecideApproval("", "", digest, True, comment, by), id)

    async def reject(self, id: str, digest: str, *, by: str = "", comment: str = "") -> Reply:
        """Say no. Raises as `approve`."""
        return await self._decide(DecideApproval("", "", digest, False, comment, by), id)

    async def _decide(self, answer: DecideApproval, id: str) -> Reply:
        workflow_id, run_id, approval = _parts(id)
        body = answer._replace(run_id=run_id, approval=approval)
        return await self._calls.caller.command(workflow_id, body, self._request)


def _parts(id: str) -> tuple[str, str, str]:
    try:
        return of_idempotency_key(id)
    except ValueError:
        raise ConfigurationError(f"{id!r} is no approval's id: `orchestrator approval list` shows them") from None


def _request(raw: JsonObject) -> ApprovalRequest:
    return ApprovalRequest(**{**{name: raw[name] for name in ApprovalRequest._fields}, "to": tuple(raw["to"])})
