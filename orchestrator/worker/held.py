"""Attempts that a worker was granted."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.tasks import TaskOffer
from orchestrator.core.values import Payload
from orchestrator.sdk.execution import StepCall


@dataclass(eq=False)
class Held:
    """A granted attempt: its newest details, those that were said, as they were sent, and whether it is still wanted.

    `ended`: its outcome is being told. `lost`: it is another's. `over`: it has its outcome, and its end was asked for.
    """

    call: StepCall
    details: Payload
    said: Payload
    sent: Payload
    beating: bool = False
    ended: bool = False
    lost: bool = False
    over: bool = False


def call_of(offer: TaskOffer, begin_before: float) -> StepCall:
    """The attempt that an offer speaks of."""
    return StepCall(
        workflow_id=offer.workflow_id,
        run_id=offer.run_id,
        step=offer.step,
        attempt=offer.attempt,
        token=offer.token,
        name=offer.name,
        arguments=offer.arguments,
        idempotency_key=offer.idempotency_key,
        start_to_close_ms=offer.start_to_close_ms,
        heartbeat_ms=offer.heartbeat_ms,
        details=offer.details,
        on_crash=offer.on_crash,
        begin_before=begin_before,
        trace=offer.trace,
    )
