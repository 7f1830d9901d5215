"""Keys to bytes so that byte order equals tuple order: integers before texts, shorter prefixes first."""

from __future__ import annotations

from functools import lru_cache

from ..core.rows import Key, Part

_INT = b"\x01"
_STR = b"\x02"


@lru_cache(maxsize=65_536)
def encode(key: Key) -> bytes:
    """Each part tagged; integers 8 bytes big-endian (non-negative), texts NUL-terminated with NUL escaped."""
    return b"".join([_encode_part(part) for part in key])


def encode_last(key: Key) -> bytes:
    """As `encode`, for keys that differ in their last part alone: what stands before it is remembered, it is not."""
    return encode(key[:-1]) + _encode_part(key[-1])


def _encode_part(part: Part) -> bytes:
    if isinstance(part, int):
        return _INT + part.to_bytes(8, "big")
    return _STR + part.encode().replace(b"\x00", b"\x00\xff") + b"\x00"


def decode(data: bytes) -> Key:
    """The inverse of `encode`."""
    parts: list[Part] = []
    at = 0
    while at < len(data):
        if data[at : at + 1] == _INT:
            parts.append(int.from_bytes(data[at + 1 : at + 9], "big"))
            at += 9
            continue
        end = data.index(b"\x00", at)
        while data[end + 1 : end + 2] == b"\xff":
            end = data.index(b"\x00", end + 2)
        parts.append(data[at + 1 : end].replace(b"\x00\xff", b"\x00").decode())
        at = end + 1
    return tuple(parts)


def successor(prefix: bytes) -> bytes:
    """The bound above every key that begins with the parts of `prefix`.

    What follows a part is a tag; FF follows a NUL only where a longer text goes on.
    """
    return prefix + b"\xff"
