"""What a worker is told, and by whom its commands are answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from orchestrator.client.requests import NO_REQUEST, Request
from orchestrator.core.commands import TopicCommand
from orchestrator.core.tasks import Reply
from orchestrator.store.blobs import Blobs


class Asks(Protocol):
    """Sends a command and waits for its reply; `orchestrator.client` has one."""

    async def command(self, workflow_id: str, body: TopicCommand, request: Request = NO_REQUEST) -> Reply:
        """The reply that accepts. Raises CommandRejected, ReplyTimeout, KafkaUnavailable, LimitExceeded."""


@dataclass(frozen=True)
class WorkerOptions:
    """`worker` names this process in leases. `slots` steps are held at once. Durations in seconds.

    An attempt is granted for `lease_s`, renewed every `renew_s` while it runs. On a drain, steps may run on for
    `grace_s`, and their reports may take `report_s` after that. `blobs` has and takes what does not fit into a record.
    """

    worker: str
    slots: int = 16
    lease_s: float = 60.0
    renew_s: float = 20.0
    grace_s: float = 30.0
    report_s: float = 6.0
    blobs: Blobs | None = None
