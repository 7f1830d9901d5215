"""Payloads too large for an event: kept as blobs before the event is written, fetched when they are needed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from ..core.commands import Command, HeartbeatStep, ReportChild, ReportStep
from ..core.decide.decision import Draft, View
from ..core.events import Event, StepFailed, StepHeartbeat
from ..core.large import FIELDS, SEEN_BY_CODE
from ..core.rows import STEPS, StepRow, step_key
from ..core.values import NOTHING, Cause, Failure, Payload, StepOptions
from ..errors import BlobError, LimitExceeded
from ..sdk.execution import StepCall
from ..store.blobs import Blobs
from ..store.large import bytes_of, kept, light, whole
from .options import EngineOptions

log = logging.getLogger(__name__)

Keep = Callable[[Payload], Payload]
KEPT_LETTERS = 2_000
KEPT_BYTES = 16_384
TEXT_BYTES = 4_096
PARKED_LETTERS = 20_000
NAMED_LETTERS = 100
OF_A_STEP = ("arguments", "details")
TRUSTED = (ReportStep, HeartbeatStep, ReportChild)
"""Outcomes of what was done already: refused for a blob that is not here, they would be lost. Its reader says so."""


def keeper(options: EngineOptions) -> Keep:
    """How payloads of this engine are held by their events. It raises BlobsUnavailable."""
    most = options.payload_bytes
    return partial(kept, blobs=options.blobs, inline=min(options.inline_bytes, most), most=most)


def reported(workflow_id: str, body: ReportStep, keep: Keep, limit: int) -> ReportStep:
    """A step's outcome with its result kept; where that cannot be done, the attempt failed with that error.

    Of a failure that is too large the beginning of its message is left.
    """
    if body.failure is not None:
        return body if _size(body.failure) <= limit else body._replace(failure=_shortened(body.failure))
    what = f"{workflow_id}, result of step {body.step}"
    try:
        body = light(body, keep)
    except BlobError as error:
        return body._replace(result=NOTHING, failure=Failure(type(error).__name__, f"{what}: {error}"))
    if len(body.result.data) <= limit:
        return body
    message = (
        f"{what}: {len(body.result.data):,} bytes, an event takes {limit:,}, and there is no blob store. Return a"
        " reference to large data, not the data."
    )
    return body._replace(result=NOTHING, failure=Failure("LimitExceeded", message, retryable=False))


def original(data: bytes, options: EngineOptions) -> tuple[Payload, str]:
    """The bytes of a dead letter as an event may hold them; if only their beginning is kept, a text that says so."""
    whole_ = Payload(codec="bytes", data=data)
    most = options.payload_bytes - KEPT_BYTES
    try:
        payload = kept(whole_, options.blobs, min(options.inline_bytes, most), most)
        problem = "there is no blob store" if len(payload.data) > most else ""
    except BlobError as error:
        payload, problem = whole_, str(error)
    if not problem:
        return payload, ""
    text = f" (of its {len(data):,} bytes only the first {KEPT_BYTES:,} are kept: {problem})"
    return whole_._replace(data=data[:KEPT_BYTES]), text


def size_of(command: tuple[object, ...]) -> int:
    """Bytes that a turn's command takes in its event, but for those that room is kept free for: common names."""
    payloads, texts = _sizes(command)
    return payloads + max(0, texts - TEXT_BYTES)


def _sizes(value: object) -> tuple[int, int]:
    """Of payloads and errors, and of texts."""
    if isinstance(value, Payload):
        return len(value.data), 0
    if isinstance(value, Failure):
        return _size(value), 0
    if isinstance(value, str):
        return 0, len(value) if value.isascii() else len(value.encode())
    if isinstance(value, StepOptions):
        return _sizes_of_options(value)
    return _sizes_of_parts(value) if isinstance(value, tuple) else (0, 0)


def _sizes_of_parts(value: tuple[object, ...]) -> tuple[int, int]:
    payloads = texts = 0
    for part in value:
        size, letters = _sizes(part)
        payloads, texts = payloads + size, texts + letters
    return payloads, texts


_sizes_of_options = lru_cache(maxsize=1_024)(_sizes_of_parts)
"""Thousands of steps have the same: a turn that schedules them all asks once."""


def with_brief_errors(command: Any, limit: int) -> Any:
    """A turn's command with an error that code ended with as its event may hold it: where it is too large, the type and
    the beginning of the message are left."""
    failure = getattr(command, "failure", None)
    if isinstance(failure, Failure) and _size(failure) > limit:
        return command._replace(failure=_shortened(failure))
    return command


def brief(message: str) -> str:
    """Why a run is parked, as its event may hold it: code may raise an error with any text."""
    if len(message) <= PARKED_LETTERS:
        return message
    return f"{message[:PARKED_LETTERS]}… (of {len(message):,} characters)"


def _size(failure: Failure) -> int:
    return len(failure.message.encode()) + len(failure.traceback.encode()) + len(failure.details.data)


def _shortened(failure: Failure) -> Failure:
    message = f"{failure.message[:KEPT_LETTERS]}… (of {_size(failure):,} bytes: too large for an event)"
    return failure._replace(message=message, traceback="", details=NOTHING)


def filled(event: Event, blobs: Blobs | None) -> Event:
    """An event as code gets it, or is compared with it: with the bytes of its payload.

    Raises BlobError naming run and step.
    """
    body: Any = event.body
    if type(body) not in SEEN_BY_CODE:
        return event
    there = whole(body, blobs, lambda field: f"{event.workflow_id}/{event.run_id}, {field} of {_named(body)}")
    return event if there is body else event._replace(body=there)


def _named(body: Any) -> str:
    names = ("step", "child", "name", "workflow_type", "update")
    name = next(filter(None, (getattr(body, name, "") for name in names)), "")
    return f"{name} ({type(body).__name__})" if name else type(body).__name__


def whole_call(call: StepCall, blobs: Blobs | None) -> StepCall:
    """An attempt with the bytes of its arguments and of the details before it. Raises BlobError naming the step."""
    return whole(call, blobs, lambda field: f"{call.where()}, its {field}", OF_A_STEP)


def unheard(error: BlobError) -> Failure:
    """Why an attempt was not begun: its arguments, or the details before it, cannot be had. It had no effect."""
    return Failure(type(error).__name__, str(error))


def unclaimed(command: Command, blobs: Blobs | None) -> str:
    """Why a command that names blobs is not to be recorded; "" if it may be.

    What a caller names has to be here: recorded, it would stop a run that nobody but that caller could help. Other
    engines of the application have the store that this one has.
    """
    body: Any = command.body
    for name, payload in zip(body._fields, body, strict=True):
        if type(payload) is not Payload or payload.blob is None:
            continue
        what = f"{command.workflow_id}, {name} of {type(body).__name__}"
        if name not in FIELDS.get(type(body), ()):
            return f"{what}: it is in a blob, and has to be in the command. Nothing was done"
        if payload.data:
            return f"{what}: it has both bytes and a blob. Nothing was done"
        if isinstance(body, TRUSTED) or command.actor.kind in ("child", "engine"):
            continue
        try:
            bytes_of(payload, blobs, what)
        except BlobError as error:
            return f"{error} Nothing was done"
    return ""


def too_large(
    view: View, command: Command, body: ReportStep | HeartbeatStep, error: LimitExceeded | BlobError, cause: Cause
) -> list[Draft]:
    """What a step said does not fit into an event: the step fails, once and for all.

    But for details of a heartbeat that cannot be written now: the attempt is alive, and the next gets those before.
    """
    place = (command.workflow_id, body.run_id)
    row = view.get(STEPS, step_key(*place, body.step))
    if isinstance(error, BlobError) and isinstance(body, HeartbeatStep) and isinstance(row, StepRow):
        log.warning("%s, heartbeat of step %s: %s", command.workflow_id, body.step, error)
        return [Draft(*place, StepHeartbeat(body.step, body.attempt, row.details), cause)]
    failure = Failure(type(error).__name__, str(error), retryable=False)
    # Who only beats does not know that it is over.
    actor = command.actor if isinstance(body, HeartbeatStep) else None
    return [Draft(*place, StepFailed(body.step, body.attempt, failure, actor=actor), cause)]
