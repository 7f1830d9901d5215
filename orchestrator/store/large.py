"""Records whose large payloads lie beside the log as blobs, and the same records with their bytes again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..core.large import FIELDS
from ..core.values import Payload
from ..errors import BlobError, BlobMissing, BlobsUnavailable
from .blobs import ADVICE, Blobs

log = logging.getLogger(__name__)

T = TypeVar("T")


def kept(payload: Payload, blobs: Blobs | None, inline: int, most: int) -> Payload:
    """The payload as a record may hold it: itself up to `inline` bytes, else a reference.

    Up to `most` bytes it is held as it is while blobs cannot be written. Raises BlobsUnavailable beyond.
    """
    size = len(payload.data)
    if size <= inline or blobs is None:
        return payload
    try:
        return payload._replace(data=b"", blob=blobs.put(payload.data))
    except BlobsUnavailable as error:
        if size > most:
            raise
        log.warning("a value of %d bytes stays in its record: %s", size, error)
        return payload


def light(record: T, keep: Callable[[Payload], Payload]) -> T:
    """A record with each payload that may be a blob as `keep` has it. Raises what that raises."""
    for name in FIELDS.get(type(record), ()):
        payload = getattr(record, name)
        if (found := keep(payload)) is not payload:
            record = _replaced(record, name, found)
    return record


def bytes_of(payload: Payload, blobs: Blobs | None, what: str) -> Payload:
    """A payload with its bytes. Raises BlobError naming `what`."""
    ref = payload.blob
    if ref is None:
        return payload
    if blobs is None:
        raise BlobMissing(
            f"{what}: it is in blob {ref.name} ({ref.size:,} bytes), and there is no blob store: {ADVICE}"
        )
    try:
        return payload._replace(data=blobs.get(ref), blob=None)
    except BlobError as error:
        raise type(error)(f"{what}: {error}") from error


def whole(record: T, blobs: Blobs | None, what: Callable[[str], str], names: Sequence[str] = ()) -> T:
    """A record with the bytes of its payloads (of those `names`). Raises BlobError; `what(field)` names the place."""
    for name in names or FIELDS.get(type(record), ()):
        payload = getattr(record, name)
        if payload.blob is not None:
            record = _replaced(record, name, bytes_of(payload, blobs, what(name)))
    return record


def carried(record: T, blobs: Blobs | None, room: int) -> T:
    """A record with the bytes of its blobs as far as `room` goes: who reads it need not have the store."""
    for name in FIELDS.get(type(record), ()):
        payload = getattr(record, name)
        found = at_hand(payload, blobs, room)
        room -= len(found.data)
        if found is not payload:
            record = _replaced(record, name, found)
    return record


def at_hand(payload: Payload, blobs: Blobs | None, room: int) -> Payload:
    """A payload with its bytes if there is room for them.

    What cannot be had stays a reference, for its reader to find and say so.
    """
    if blobs is None or payload.blob is None or payload.blob.size > room:
        return payload
    try:
        return bytes_of(payload, blobs, "a value")
    except BlobError as error:
        log.warning("it leaves without its bytes: %s", error)
        return payload


def _replaced(record: T, name: str, payload: Payload) -> T:
    named_tuple: Any = record
    replaced: T = named_tuple._replace(**{name: payload})
    return replaced
