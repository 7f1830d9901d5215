"""Records of `schemas/` by their fingerprints: nothing but fastavro and the folder."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import fastavro.schema

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
MAGIC = b"\xc3\x01"
TAG = b"orchestrator.event.v1"


class Undecodable(ValueError):
    """Bytes that are no record of `schemas/`."""


class Decoded(NamedTuple):
    """A record: its folder, its type's name, its fields."""

    kind: str
    name: str
    fields: dict[str, Any]


@cache
def _by_fingerprint() -> dict[bytes, tuple[str, str, Any]]:
    found = {}
    for path in sorted(SCHEMAS.glob("*/*.avsc")):
        source = json.loads(path.read_text(encoding="utf-8"))
        canonical = fastavro.schema.to_parsing_canonical_form(source)
        mark = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
        found[mark] = (
            path.parent.name,
            path.name.split(".")[0],
            fastavro.parse_schema(source, _force=True),
        )
    return found


@cache
def _by_name() -> dict[tuple[str, str], tuple[bytes, Any]]:
    return {(kind, name): (mark, parsed) for mark, (kind, name, parsed) in _by_fingerprint().items()}


def decode(value: bytes) -> Decoded:
    """A record in Avro single-object encoding. Raises Undecodable."""
    if value[:2] != MAGIC or value[2:10] not in _by_fingerprint():
        raise Undecodable(f"no schema of schemas/ for bytes that start with {value[:10].hex()}")
    kind, name, parsed = _by_fingerprint()[value[2:10]]
    body = io.BytesIO(value)
    body.seek(10)
    try:
        fields = fastavro.schemaless_reader(body, parsed, None)
    except Exception as error:
        raise Undecodable(f"{name}: {error!r}") from error
    if body.tell() != len(value):
        raise Undecodable(f"{name}: {len(value) - body.tell()} bytes left over")
    return Decoded(kind, name, fields)


def encode(kind: str, name: str, fields: dict[str, Any]) -> bytes:
    """The inverse, for hand-made logs; fields that have defaults may be left out."""
    mark, parsed = _by_name()[kind, name]
    out = io.BytesIO()
    out.write(MAGIC + mark)
    fastavro.schemaless_writer(out, parsed, fields)
    return out.getvalue()


def event_hash(key: bytes, value: bytes) -> bytes:
    """The event hash of format v1."""
    return hashlib.sha256(TAG + struct.pack(">I", len(key)) + key + struct.pack(">I", len(value)) + value).digest()
