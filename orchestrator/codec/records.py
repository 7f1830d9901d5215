"""Records to bytes and back. The fields of a NamedTuple in `core` and of its Avro record in `schemas/` are the same.

The event hash is SHA-256(tag, length and bytes of the key, length and bytes of the value): no Avro is needed to
verify it.
"""

from __future__ import annotations

import hashlib
import struct
import typing
from functools import cached_property
from typing import Any

from ..core import commands, events, rows, tasks
from ..core.events import Event, Record
from ..core.values import NO_CAUSE, NOTHING, StepOptions
from ..errors import UndecodableRecord
from . import schemas
from .compiled import Compiler, Embedded, Reader, Writer, is_named_tuple
from .framing import Framing, SingleObject

HASH_TAG = b"orchestrator.event.v1"
FOOTER_KEY = b"\x00footer"
CLAIM_KEY = b"\x00claim"
PARTITION_KEY = b"\x00partition"

MALFORMED = (IndexError, ValueError, RecursionError, struct.error)
"""What the generated readers run into in bytes that are no record."""

_HEADS = {"events": (Event, "body"), "commands": (commands.Command, "body")}
"""Records whose schema holds the fields of the outer class beside those of its body."""

_SHARED = (NO_CAUSE, NOTHING, StepOptions())
"""Values that most records carry, as the same object."""

_CACHED = (StepOptions,)
"""Values that many records carry by equality: written once."""

_EVERYWHERE = (
    *(events.PartitionClaimed, events.PartitionReleased, events.BatchFooter),
    *(events.RunStarted, events.StepScheduled, events.StepStarted, events.StepCompleted, events.RunCompleted),
    *(rows.ClaimRow, rows.PositionRow, rows.RoutingRow, rows.RunRow, rows.CurrentRow, rows.StepRow, rows.DedupRow),
    *(rows.TimerRow, rows.TimerDueRow, rows.IndexRow, rows.ExpiryRow, rows.OutboxRow),
)
"""What hardly a log does without."""


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


class _Shape:
    """How one NamedTuple class meets one schema file. Its functions are compiled when they are first needed."""

    def __init__(self, cls: Any, schema: schemas.Schema, header: bytes, compiler: Compiler) -> None:
        self.cls = cls
        self.schema = schema
        self.header = header
        self._compiler = compiler
        self._head = _HEADS.get(schema.kind)

    @cached_property
    def write(self) -> Writer:
        return self._compiler.writer(self.schema.parsed, self.cls, self._head)

    @cached_property
    def read(self) -> Reader:
        return self._compiler.reader(self.schema.parsed, self.cls, self._head)

    @cached_property
    def read_body(self) -> Reader:
        return self._compiler.rest_reader(self.schema.parsed, self.cls, Event, "prev_hash")


class Codec:
    """Encodes and decodes every record type under one framing. Build one a process; it is immutable and thread-safe."""

    def __init__(self, framing: Framing | None = None) -> None:
        self.framing: Framing = framing or SingleObject()
        self._by_class: dict[Any, _Shape] = {}
        self._by_fingerprint: dict[bytes, _Shape] = {}
        self._internal = SingleObject()
        classes = _classes()
        embedded = Embedded(rows.Message, self._encode_inside, self.decode)
        for schema in sorted(schemas.all_schemas(), key=lambda schema: schema.version):
            cls = classes[schema.kind, schema.name]
            header = (self._internal if schema.kind == "rows" else self.framing).header(schema.fingerprint)
            shape = _Shape(cls, schema, header, Compiler(_SHARED, _CACHED, embedded))
            self._by_class[cls] = shape  # The newest version is the last.
            self._by_fingerprint[schema.fingerprint] = shape

    def prepare(self) -> None:
        """Compile what hardly a log does without now (some 60 ms): else the first restore would, lock in hand."""
        for shape in map(self._by_class.__getitem__, _EVERYWHERE):
            _ = shape.read, shape.write

    # -- the records of the log --------------------------------------------------------------------------------------

    def seal(self, event: Event) -> Record:
        """Encode an event whose `prev_hash` is set; the hash is over key and value as on the wire."""
        shape = self._by_class[type(event.body)]
        key = event_key(event)
        value = shape.header + shape.write(event)
        return Record(event, key, value, event_hash(key, value))

    def decode_event(self, key: bytes, value: bytes) -> Record:
        """The event of a record read from an events topic. Raises UndecodableRecord."""
        return Record(self._read(value, "events"), key, value, event_hash(key, value))

    def encode_command(self, command: commands.Command) -> bytes:
        """A command as it travels on `<app>.commands`."""
        shape = self._by_class[type(command.body)]
        return shape.header + shape.write(command)

    def decode_command(self, value: bytes) -> commands.Command:
        """A command read from a topic. Raises UndecodableRecord."""
        command: commands.Command = self._read(value, "commands")
        return command

    def encode(self, value: Any) -> bytes:
        """Any other record type: task offers, replies, dead letters, rows; commands too."""
        if type(value) is commands.Command:
            return self.encode_command(value)
        shape = self._by_class[type(value)]
        return shape.header + shape.write(value)

    def decode(self, value: bytes) -> Any:
        """The inverse of `encode`. Raises UndecodableRecord."""
        return self._read(value)

    def _encode_inside(self, value: Any) -> bytes:
        """A record inside a row: state does not depend on how the topics are framed."""
        shape = self._by_class[type(value.body) if type(value) is commands.Command else type(value)]
        return self._internal.header(shape.schema.fingerprint) + shape.write(value)

    # -- Avro --------------------------------------------------------------------------------------------------------

    def split(self, value: bytes) -> tuple[bytes, int]:
        """(fingerprint of its schema, where its fields begin). Raises UndecodableRecord."""
        return self._internal.split(value) if value[:2] == b"\xc3\x01" else self.framing.split(value)

    def body_reader(self, fingerprint: bytes) -> Reader:
        """For events of a schema: (value, where what stands behind `prev_hash` begins) to (body, where it ends).

        Raises UndecodableRecord; the reader raises what malformed bytes lead it into (MALFORMED).
        """
        return self._shape(fingerprint).read_body

    def _shape(self, fingerprint: bytes) -> _Shape:
        try:
            return self._by_fingerprint[fingerprint]
        except KeyError:
            raise UndecodableRecord(
                f"unknown schema {fingerprint.hex()}: written by a newer release, or not one of this"
                f" application's records"
            ) from None

    def _read(self, value: bytes, kind: str = "") -> Any:
        fingerprint, start = self.split(value)
        shape = self._shape(fingerprint)
        if kind and shape.schema.kind != kind:
            raise UndecodableRecord(
                f"a record of schemas/{shape.schema.kind} ({shape.schema.name}) where {kind} belong"
            )
        try:
            found, end = shape.read(value, start)
        except MALFORMED as error:
            raise UndecodableRecord(f"{shape.schema.name}: {type(error).__name__}: {error}") from error
        if end != len(value):
            raise UndecodableRecord(f"{shape.schema.name}: {len(value) - end} bytes left over after the record")
        return found


def _classes() -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for cls in typing.get_args(events.Body):
        found["events", cls.__name__] = cls
    for cls in typing.get_args(commands.TopicCommand):
        found["commands", cls.__name__] = cls
    for cls in (tasks.TaskOffer, tasks.StopStep, tasks.Reply, tasks.DeadLetter, tasks.Forward, tasks.Anchor):
        found["tasks", cls.__name__] = cls
    for cls in vars(rows).values():
        if is_named_tuple(cls) and cls.__name__.endswith("Row"):
            found["rows", cls.__name__] = cls
    return found
