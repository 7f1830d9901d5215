"""The schemas of `schemas/`: found, parsed and fingerprinted once. The wheel carries them as `orchestrator/schemas`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import fastavro.schema

KINDS = ("commands", "events", "tasks", "rows")


class Schema(NamedTuple):
    """One `.avsc` file.

    `fingerprint` is CRC-64-AVRO of the canonical form as single-object encoding carries it (8 bytes, LE).
    """

    kind: str
    name: str
    version: int
    path: Path
    parsed: Any
    fields: tuple[str, ...]
    fingerprint: bytes


def folder() -> Path:
    """Where the schemas lie: inside the installed package, else beside it in a checkout."""
    packaged = Path(__file__).resolve().parent.parent / "schemas"
    return packaged if packaged.is_dir() else packaged.parent.parent / "schemas"


def fingerprint(text: str) -> bytes:
    """CRC-64-AVRO of a schema's canonical form, little-endian, as the Avro specification's single-object encoding
    has it.
    """
    canonical = fastavro.schema.to_parsing_canonical_form(json.loads(text))
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


def load(path: Path) -> Schema:
    """Parse one file named `Name.vN.avsc`."""
    text = path.read_text(encoding="utf-8")
    name, version, _ = path.name.split(".")
    source = json.loads(text)
    fields = tuple(field["name"] for field in source["fields"])
    parsed = fastavro.parse_schema(source, _force=True)
    return Schema(path.parent.name, name, int(version[1:]), path, parsed, fields, fingerprint(text))


def files() -> Iterator[Path]:
    """Every schema file, in a stable order."""
    for kind in KINDS:
        yield from sorted((folder() / kind).glob("*.avsc"))


@cache
def all_schemas() -> tuple[Schema, ...]:
    """Every released schema."""
    found = [load(path) for path in files()]
    return tuple(sorted(found, key=lambda schema: (KINDS.index(schema.kind), schema.name, schema.version)))


def written_schemas() -> tuple[Schema, ...]:
    """The newest version of each: what this release writes. It reads all of them."""
    return tuple({(schema.kind, schema.name): schema for schema in all_schemas()}.values())
