"""Results too large for an event: kept as blobs before the event is written, fetched when code awaits them."""

from __future__ import annotations

from typing import Any

from ..core.commands import Command, HeartbeatStep, ReportStep
from ..core.decide.decision import Draft
from ..core.events import Event, StepFailed
from ..core.values import NOTHING, Cause, Failure, Payload
from ..errors import BlobError, BlobMissing, LimitExceeded
from ..store.blobs import ADVICE, Blobs

KEPT_LETTERS = 2_000
KEPT_BYTES = 16_384


def kept(payload: Payload, blobs: Blobs | None, limit: int) -> Payload:
    """The payload as an event may hold it: itself up to `limit` bytes, else a reference. Raises BlobsUnavailable."""
    if len(payload.data) <= limit or blobs is None:
        return payload
    return payload._replace(data=b"", blob=blobs.put(payload.data))


def reported(workflow_id: str, body: ReportStep, blobs: Blobs | None, limit: int) -> ReportStep:
    """A step's outcome with its result kept; where that cannot be done, the attempt failed with that error.

    Of a failure that is too large the beginning of its message is left.
    """
    if body.failure is not None:
        return body if _size(body.failure) <= limit else body._replace(failure=_shortened(body.failure))
    if len(body.result.data) <= limit:
        return body
    if blobs is None:
        message = (
            f"{workflow_id}, result of step {body.step}: {len(body.result.data):,} bytes, an event takes {limit:,}, and"
            " there is no blob store. Return a reference to large data, not the data."
        )
        return body._replace(result=NOTHING, failure=Failure("LimitExceeded", message, retryable=False))
    try:
        return body._replace(result=kept(body.result, blobs, limit))
    except BlobError as error:
        message = f"{workflow_id}, result of step {body.step}: {error}"
        return body._replace(result=NOTHING, failure=Failure(type(error).__name__, message))


def original(data: bytes, blobs: Blobs | None, limit: int) -> tuple[Payload, str]:
    """The bytes of a dead letter as an event may hold them; if only their beginning is kept, a text that says so."""
    whole = Payload(codec="bytes", data=data)
    try:
        payload = kept(whole, blobs, limit)
        problem = "there is no blob store" if len(payload.data) > limit else ""
    except BlobError as error:
        payload, problem = whole, str(error)
    if not problem:
        return payload, ""
    text = f" (of its {len(data):,} bytes only the first {KEPT_BYTES:,} are kept: {problem})"
    return whole._replace(data=data[:KEPT_BYTES]), text


def _size(failure: Failure) -> int:
    return len(failure.message.encode()) + len(failure.traceback.encode()) + len(failure.details.data)


def _shortened(failure: Failure) -> Failure:
    message = f"{failure.message[:KEPT_LETTERS]}… (of {_size(failure):,} bytes: too large for an event)"
    return failure._replace(message=message, traceback="", details=NOTHING)


def filled(event: Event, blobs: Blobs | None) -> Event:
    """An event as code gets it: a result that is a reference, with its bytes. Raises BlobError naming run and step."""
    body: Any = event.body
    result = getattr(body, "result", None)
    if not isinstance(result, Payload) or result.blob is None:
        return event
    what = f"{event.workflow_id}/{event.run_id}, result of {getattr(body, 'step', '') or getattr(body, 'child', '')}"
    if blobs is None:
        raise BlobMissing(f"{what}: it is in blob {result.blob.name}, and there is no blob store: {ADVICE}")
    try:
        data = blobs.get(result.blob)
    except BlobError as error:
        raise type(error)(f"{what}: {error}") from error
    return event._replace(body=body._replace(result=result._replace(data=data, blob=None)))


def too_large(command: Command, body: ReportStep | HeartbeatStep, error: LimitExceeded, cause: Cause) -> list[Draft]:
    """What a step said does not fit into an event: the step fails, once and for all."""
    failure = Failure("LimitExceeded", str(error), retryable=False)
    # Who only beats does not know that it is over.
    actor = command.actor if isinstance(body, HeartbeatStep) else None
    return [Draft(command.workflow_id, body.run_id, StepFailed(body.step, body.attempt, failure, actor=actor), cause)]
