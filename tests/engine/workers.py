"""A worker that a test plays by hand: it sees the offers of a queue, asks for grants, beats and reports."""

from __future__ import annotations

import json
import time
from typing import Any

from orchestrator.core import commands as c
from orchestrator.core.tasks import Reply, TaskOffer
from orchestrator.core.values import Failure, Payload
from tests.engine.rig import PATIENCE_S, Rig


class HandWorker:
    """Serves one queue. Its replies are the rig's."""

    def __init__(self, rig: Rig, queue: str, name: str = "worker-1") -> None:
        self._rig = rig
        self._queue = queue
        self._name = name
        rig.cluster.create(f"{rig.app.name}.tasks.{queue}", 1)

    def offers(self) -> list[TaskOffer]:
        """Every offer so far, repeated ones included."""
        records = self._rig.records(f"tasks.{self._queue}")
        return [self._rig.codec.decode(record.value) for record in records[0]]

    def offer(self, attempt: int = 1, workflow: str = "") -> TaskOffer:
        """Wait for the offer of an attempt, of one workflow or of any."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for offer in self.offers():
                if offer.attempt == attempt and workflow in ("", offer.workflow_id):
                    return offer
            self._rig.site.wait(0.02)
        raise AssertionError(f"attempt {attempt} was never offered: {self.offers()}")

    def ask(self, offer: TaskOffer, lease_ms: int = 3_600_000) -> Reply:
        """Ask for the grant."""
        body = c.StartStep(offer.run_id, offer.step, offer.attempt, offer.token, self._name, lease_ms)
        return self._rig.ask(offer.workflow_id, body)

    def take(self, attempt: int = 1, lease_ms: int = 3_600_000) -> TaskOffer:
        """Wait for an offer, and get the grant."""
        offer = self.offer(attempt)
        answer = self.ask(offer, lease_ms)
        assert (answer.outcome, answer.code) == ("accepted", "StepLeased"), answer
        return offer

    def beat(self, offer: TaskOffer, details: Any = None) -> Reply:
        """Say that the attempt is alive."""
        payload = Payload(data=json.dumps(details).encode())
        body = c.HeartbeatStep(offer.run_id, offer.step, offer.attempt, offer.token, payload)
        return self._rig.ask(offer.workflow_id, body)

    def report(self, offer: TaskOffer, result: Any = None, failure: Failure | None = None) -> Reply:
        """Report the attempt's outcome."""
        payload = Payload(data=json.dumps(result).encode())
        body = c.ReportStep(offer.run_id, offer.step, offer.attempt, offer.token, payload, failure)
        return self._rig.ask(offer.workflow_id, body)
