"""How an Avro body is framed on the wire.

Single-object encoding by default, the Confluent registry's format as a setting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ..errors import UndecodableRecord

SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT_MAGIC = b"\x00"


class Framing(Protocol):
    """Puts a schema's identity before a body and takes it off again."""

    def header(self, fingerprint: bytes) -> bytes:
        """The bytes before the body."""

    def split(self, value: bytes) -> tuple[bytes, int]:
        """(fingerprint, where the body starts). Raises UndecodableRecord."""


class SingleObject:
    """Avro specification: C3 01, 8 bytes CRC-64-AVRO little-endian, body. Readers need only `schemas/`."""

    def header(self, fingerprint: bytes) -> bytes:
        return SINGLE_OBJECT + fingerprint

    def split(self, value: bytes) -> tuple[bytes, int]:
        if value[:2] != SINGLE_OBJECT or len(value) < 10:
            registry = value[:1] == CONFLUENT_MAGIC and len(value) >= 5
            hint = "; is it a schema registry's wire format? Then set ORCHESTRATOR_REGISTRY_URL" if registry else ""
            raise UndecodableRecord(
                f"not Avro single-object encoding: starts with {value[:2].hex() or 'nothing'}, expected c301 and"
                f" a schema fingerprint (see schemas/){hint}"
            )
        return value[2:10], 10


class Confluent:
    """The registry's wire format: 00, 4 bytes schema id big-endian, body.

    `ids` maps a fingerprint to the registry's id. `resolve(id)` finds the fingerprint of an id met for the first time,
    or raises UndecodableRecord: other producers may have registered the same schema in other words.
    """

    def __init__(self, ids: Mapping[bytes, int], resolve: Callable[[int], bytes] | None = None) -> None:
        self._ids = dict(ids)
        self._fingerprints = {number: fingerprint for fingerprint, number in ids.items()}
        self._resolve = resolve

    def header(self, fingerprint: bytes) -> bytes:
        try:
            return CONFLUENT_MAGIC + self._ids[fingerprint].to_bytes(4, "big")
        except KeyError:
            raise UndecodableRecord(
                f"schema {fingerprint.hex()} is not registered: run `orchestrator topics init` with the registry's URL"
            ) from None

    def split(self, value: bytes) -> tuple[bytes, int]:
        if value[:1] != CONFLUENT_MAGIC or len(value) < 5:
            raise UndecodableRecord(
                f"not the Confluent wire format: starts with {value[:1].hex() or 'nothing'}, expected 00"
            )
        number = int.from_bytes(value[1:5], "big")
        found = self._fingerprints.get(number)
        if found is None:
            if self._resolve is None:
                raise UndecodableRecord(f"schema id {number} is not one of this application's schemas")
            found = self._fingerprints[number] = self._resolve(number)
        return found, 5


class SingleObjectToo:
    """Writes single-object encoding and reads the registry's wire format besides."""

    def __init__(self, confluent: Confluent) -> None:
        self._own = SingleObject()
        self._confluent = confluent

    def header(self, fingerprint: bytes) -> bytes:
        return self._own.header(fingerprint)

    def split(self, value: bytes) -> tuple[bytes, int]:
        return (self._confluent if value[:1] == CONFLUENT_MAGIC else self._own).split(value)
