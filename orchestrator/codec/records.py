"""Records to bytes and back. The fields of a NamedTuple in `core` and of its Avro record in `schemas/` are the same.

The event hash is SHA-256(tag, length and bytes of the key, length and bytes of the value): no Avro is needed to
verify it.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import fastavro

from ..core import commands, events, rows, tasks
from ..core.events import Event, Record
from ..core.values import NO_CAUSE, Actor, Cause, ReplyTo, StepOptions
from ..errors import UndecodableRecord
from . import schemas
from .framing import Framing, SingleObject

HASH_TAG = b"orchestrator.event.v1"
FOOTER_KEY = b"\x00footer"
CLAIM_KEY = b"\x00claim"
PARTITION_KEY = b"\x00partition"

_EVENT_HEAD = tuple(name for name in Event._fields if name != "body")
_COMMAND_HEAD = tuple(name for name in commands.Command._fields if name != "body")
_NESTED_HEAD = ("actor", "reply_to")

Convert = Callable[[Any], Any]


def event_hash(key: bytes, value: bytes) -> bytes:
    """The hash of a record as it stands on the wire (format.md)."""
    return hashlib.sha256(
        b"%b%b%b%b%b" % (HASH_TAG, struct.pack(">I", len(key)), key, struct.pack(">I", len(value)), value)
    ).digest()


def event_key(event: Event) -> bytes:
    """A run's events are keyed by workflow id; the partition's own records by keys that no workflow id can be (NUL)."""
    body = type(event.body)
    if body is events.BatchFooter:
        return FOOTER_KEY
    if body is events.PartitionClaimed:
        return CLAIM_KEY
    return event.workflow_id.encode() if event.workflow_id else PARTITION_KEY


class _Shape(NamedTuple):
    """How one NamedTuple class meets its Avro record."""

    cls: Any
    schema: schemas.Schema
    header: bytes
    to_avro: Convert
    from_avro: Convert


def _is_named_tuple(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def _inner(hint: Any) -> Any:
    """The hint without `| None`."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint


class Codec:
    """Encodes and decodes every record type under one framing. Build one a process; it is immutable and thread-safe."""

    def __init__(self, framing: Framing | None = None) -> None:
        self.framing: Framing = framing or SingleObject()
        self._by_class: dict[Any, _Shape] = {}
        self._by_fingerprint: dict[bytes, _Shape] = {}
        self._internal = SingleObject()
        classes = _classes()
        for schema in schemas.all_schemas():
            cls = classes[schema.kind, schema.name]
            header = (self._internal if schema.kind == "rows" else self.framing).header(schema.fingerprint)
            shape = _Shape(cls, schema, header, self._to_avro(cls), self._from_avro(cls))
            self._by_class[cls] = shape
            self._by_fingerprint[schema.fingerprint] = shape

    # -- the records of the log --------------------------------------------------------------------------------------

    def seal(self, event: Event) -> Record:
        """Encode an event whose `prev_hash` is set; the hash is over key and value as on the wire."""
        shape = self._by_class[type(event.body)]
        datum = shape.to_avro(event.body)
        for name, value in zip(_EVENT_HEAD, _event_head(event), strict=True):
            datum[name] = value
        datum["cause"] = _cause(event.cause)
        value = self._write(shape, datum)
        key = event_key(event)
        return Record(event, key, value, event_hash(key, value))

    def decode_event(self, key: bytes, value: bytes) -> Record:
        """The event of a record read from an events topic. Raises UndecodableRecord."""
        shape, datum = self._read(value, "events")
        # The head's fields come first in every event schema, in the order of Event's own: restores live on this line.
        workflow_id, run_id, seq, cause, *rest = itertools.islice(datum.values(), len(_EVENT_HEAD))
        body = shape.from_avro(dict(itertools.islice(datum.items(), len(_EVENT_HEAD), None)))
        event = Event(workflow_id, run_id, seq, body, _cause_back(cause), *rest)
        return Record(event, key, value, event_hash(key, value))

    def encode_command(self, command: commands.Command) -> bytes:
        """A command as it travels on `<app>.commands`."""
        shape = self._by_class[type(command.body)]
        datum = shape.to_avro(command.body)
        for name in _COMMAND_HEAD:
            value = getattr(command, name)
            datum[name] = value._asdict() if name in _NESTED_HEAD and value is not None else value
        return self._write(shape, datum)

    def decode_command(self, value: bytes) -> commands.Command:
        """A command read from a topic. Raises UndecodableRecord."""
        shape, datum = self._read(value, "commands")
        return self._command(shape, datum)

    def _command(self, shape: _Shape, datum: dict[str, Any]) -> commands.Command:
        head = {name: datum.pop(name) for name in _COMMAND_HEAD}
        head["actor"] = Actor(**head["actor"])
        if head["reply_to"] is not None:
            head["reply_to"] = ReplyTo(**head["reply_to"])
        return commands.Command(body=shape.from_avro(datum), **head)

    def encode(self, value: Any) -> bytes:
        """Any other record type: task offers, replies, dead letters, rows; commands too."""
        if type(value) is commands.Command:
            return self.encode_command(value)
        shape = self._by_class[type(value)]
        return self._write(shape, shape.to_avro(value))

    def decode(self, value: bytes) -> Any:
        """The inverse of `encode`. Raises UndecodableRecord."""
        fingerprint, start = self._split(value)
        shape = self._shape(fingerprint)
        datum = _parse(shape, value, start)
        return self._command(shape, datum) if shape.schema.kind == "commands" else shape.from_avro(datum)

    # -- Avro --------------------------------------------------------------------------------------------------------

    def _split(self, value: bytes) -> tuple[bytes, int]:
        return self._internal.split(value) if value[:2] == b"\xc3\x01" else self.framing.split(value)

    def _shape(self, fingerprint: bytes) -> _Shape:
        try:
            return self._by_fingerprint[fingerprint]
        except KeyError:
            raise UndecodableRecord(
                f"unknown schema {fingerprint.hex()}: written by a newer release, or not one of this"
                f" application's records"
            ) from None

    def _read(self, value: bytes, kind: str) -> tuple[_Shape, dict[str, Any]]:
        fingerprint, start = self._split(value)
        shape = self._shape(fingerprint)
        if shape.schema.kind != kind:
            raise UndecodableRecord(
                f"a record of schemas/{shape.schema.kind} ({shape.schema.name}) where {kind} belong"
            )
        return shape, _parse(shape, value, start)

    def _write(self, shape: _Shape, datum: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        out.write(shape.header)
        fastavro.schemaless_writer(out, shape.schema.parsed, datum)
        return out.getvalue()

    # -- NamedTuple to Avro datum ------------------------------------------------------------------------------------

    def _to_avro(self, cls: Any) -> Convert:
        nested = [(name, convert) for name, hint in _hints(cls) if (convert := self._value_to_avro(hint)) is not None]

        def to_avro(value: Any) -> dict[str, Any]:
            datum: dict[str, Any] = value._asdict()
            for name, convert in nested:
                field = datum[name]
                if field is not None:
                    datum[name] = convert(field)
            return datum

        return to_avro

    def _value_to_avro(self, hint: Any) -> Convert | None:
        if hint == rows.Message:
            return self.encode
        inner = _inner(hint)
        if typing.get_origin(inner) is tuple:
            return list
        if not _is_named_tuple(inner):
            return None
        convert = self._to_avro(inner)
        return lru_cache(maxsize=256)(convert) if inner in _SHARED else convert

    def _from_avro(self, cls: Any) -> Convert:
        hints = _hints(cls)
        converts = [(at, convert) for at, (_, hint) in enumerate(hints) if (convert := self._value_from_avro(hint))]
        names, defaults, make = cls._fields, cls._field_defaults, cls._make

        def from_avro(datum: dict[str, Any]) -> Any:
            # A record of an older version lacks later fields: they take their defaults (additive change only).
            same = len(datum) == len(names)
            values = list(datum.values()) if same else [datum.get(name, defaults.get(name)) for name in names]
            for at, convert in converts:
                value = values[at]
                if value is not None:
                    values[at] = convert(value)
            return make(values)

        return from_avro

    def _value_from_avro(self, hint: Any) -> Convert | None:
        if hint == rows.Message:
            return self.decode
        inner = _inner(hint)
        if typing.get_origin(inner) is tuple:
            return tuple
        return self._from_avro(inner) if _is_named_tuple(inner) else None


_SHARED = (StepOptions,)
"""Values that many records share by equality: converted once."""


def _parse(shape: _Shape, value: bytes, start: int) -> dict[str, Any]:
    stream = io.BytesIO(value)
    stream.seek(start)
    try:
        datum: dict[str, Any] = fastavro.schemaless_reader(stream, shape.schema.parsed, None)  # type: ignore[assignment]
    except Exception as error:
        # fastavro raises whatever the bytes lead it into: EOFError, struct.error, UnicodeDecodeError, MemoryError ...
        raise UndecodableRecord(f"{shape.schema.name}: {type(error).__name__}: {error}") from error
    if stream.tell() != len(value):
        raise UndecodableRecord(f"{shape.schema.name}: {len(value) - stream.tell()} bytes left over after the record")
    return datum


def _hints(cls: Any) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(cls)
    return [(name, hints[name]) for name in cls._fields]


def _event_head(event: Event) -> tuple[Any, ...]:
    return (*event[:3], *event[4:])


def _cause(cause: Cause) -> dict[str, Any]:
    datum = cause._asdict()
    if cause.reply_to is not None:
        datum["reply_to"] = cause.reply_to._asdict()
    return datum


def _cause_back(datum: dict[str, Any]) -> Cause:
    values = list(datum.values())
    if values[5] is not None:
        values[5] = ReplyTo(**values[5])
    elif not values[0] and not values[1]:
        return NO_CAUSE
    return Cause._make(values)


def _classes() -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for cls in typing.get_args(events.Body):
        found["events", cls.__name__] = cls
    for cls in typing.get_args(commands.TopicCommand):
        found["commands", cls.__name__] = cls
    for cls in (tasks.TaskOffer, tasks.Reply, tasks.DeadLetter, tasks.Forward, tasks.Anchor):
        found["tasks", cls.__name__] = cls
    for cls in vars(rows).values():
        if _is_named_tuple(cls) and cls.__module__ == rows.__name__:
            found["rows", cls.__name__] = cls
    return found
