"""The wire between an executor and its step processes: length-prefixed frames on a socket pair.

A frame is two big-endian 32-bit numbers (length of everything after the first, length of the header), a JSON header
`[kind, fields, payloads]` and the payloads' bytes, one after the other. A payload of the usual sort stands in the
header as its length alone, any other as `[codec, key_id, length, blob]`. Values never pass through JSON twice.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

from orchestrator.core.values import BlobRef, Failure, Payload
from orchestrator.errors import OrchestratorError
from orchestrator.sdk.execution import StepCall

START = "start"
"""[seq, *StepCall without its payloads], arguments, details."""
CANCEL = "cancel"
"""[seq]"""
PING = "ping"
"""[]; answered by `pong` from the process's main loop."""
READY = "ready"
"""[pid]: the application is loaded."""
BROKEN = "broken"
"""[message]: the application could not be loaded; the process ends."""
DONE = "done"
"""[seq], result."""
FAILED = "failed"
"""[seq, type, message, traceback, retryable, retry_after_ms], details."""
BEAT = "beat"
"""[seq], details."""
ALONE = "alone"
"""[seq]: this step blocks its thread and needs a process to itself; it was not begun."""
PONG = "pong"
"""[]"""

MARK = struct.Struct("<Q")
"""Not a frame: the number of the attempt whose code holds the process now (0: none), in memory shared with the
executor, who reads it after the process's death."""

_LENGTHS = struct.Struct(">II")
_LIMIT = 1 << 30
_encode_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class BrokenFrame(OrchestratorError):
    """The other end of a socket pair sent what is no frame."""


class Frame(NamedTuple):
    """One message between an executor and a step process."""

    kind: str
    fields: list[Any]
    payloads: tuple[Payload, ...]


def encode(kind: str, fields: list[Any], *payloads: Payload) -> bytes:
    """The bytes of a frame. `fields` holds JSON values only."""
    header = _encode_json([kind, fields, [_describe(payload) for payload in payloads]]).encode()
    size = 4 + len(header) + sum(len(payload.data) for payload in payloads)
    return b"".join((_LENGTHS.pack(size, len(header)), header, *(payload.data for payload in payloads)))


def _describe(payload: Payload) -> int | list[Any]:
    if payload.codec == "json" and not payload.key_id and payload.blob is None:
        return len(payload.data)
    return [payload.codec, payload.key_id, len(payload.data), payload.blob]


class FrameReader:
    """Cuts a stream of bytes into frames. Raises `BrokenFrame` where the stream is none."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`, in order."""
        rest = self._rest
        rest += data
        frames = []
        at = 0
        while len(rest) - at >= 8:
            size, header = _LENGTHS.unpack_from(rest, at)
            if size > _LIMIT or header + 4 > size:
                raise BrokenFrame(f"a frame of {size} bytes with a header of {header} bytes: the stream is damaged")
            end = at + 4 + size
            if len(rest) < end:
                break
            frames.append(_decode(bytes(rest[at + 8 : end]), header))
            at = end
        del rest[:at]
        return frames


def _decode(body: bytes, header: int) -> Frame:
    try:
        kind, fields, described = json.loads(body[:header])
        payloads = []
        at = header
        for item in described:
            codec, key_id, size, blob = ("json", "", item, None) if isinstance(item, int) else item
            payloads.append(Payload(codec, key_id, body[at : at + size], BlobRef(*blob) if blob else None))
            at += size
    except (ValueError, TypeError) as error:
        raise BrokenFrame(f"a frame whose header cannot be read: {error}") from error
    return Frame(kind, fields, tuple(payloads))


def encode_start(seq: int, call: StepCall) -> bytes:
    """The frame that begins an attempt; `seq` names it on this socket pair."""
    fields = [
        seq,
        call.workflow_id,
        call.run_id,
        call.step,
        call.attempt,
        call.token,
        call.name,
        call.idempotency_key,
        call.start_to_close_ms,
        call.heartbeat_ms,
        call.on_crash,
        call.begin_before,
        call.trace,
    ]
    return encode(START, fields, call.arguments, call.details)


def decode_start(frame: Frame) -> tuple[int, StepCall]:
    """The attempt that a `start` frame carries, and its number."""
    seq, workflow_id, run_id, step, attempt, token, name, key, close_ms, beat_ms, on_crash, before, trace = frame.fields
    arguments, details = frame.payloads
    call = StepCall(
        workflow_id,
        run_id,
        step,
        attempt,
        token,
        name,
        arguments,
        key,
        close_ms,
        beat_ms,
        details,
        on_crash,
        before,
        trace,
    )
    return seq, call


def encode_outcome(seq: int, result: Payload, failure: Failure | None) -> bytes:
    """The frame that ends an attempt."""
    if failure is None:
        return encode(DONE, [seq], result)
    fields = [seq, failure.type, failure.message, failure.traceback, failure.retryable, failure.retry_after_ms]
    return encode(FAILED, fields, failure.details)


def decode_failure(frame: Frame) -> Failure:
    """The failure that a `failed` frame carries."""
    _, kind, message, traceback, retryable, retry_after_ms = frame.fields
    return Failure(kind, message, frame.payloads[0], traceback, retryable, retry_after_ms)
