"""The generated readers and writers against fastavro, on random values of every record type."""

from __future__ import annotations

import contextlib
import io
import random
import sys
import threading
import types
import typing
from typing import Any

import fastavro
import pytest

from orchestrator.codec import schemas
from orchestrator.codec.compiled import Compiler, is_named_tuple
from orchestrator.codec.records import CLAIM_KEY, Codec, _classes
from orchestrator.core import rows
from orchestrator.core.commands import Command
from orchestrator.core.events import BatchFooter, Event
from orchestrator.core.tasks import Reply
from orchestrator.core.values import NOTHING
from orchestrator.errors import UndecodableRecord

ROUNDS = 40
NUMBERS = (0, 1, -1, 63, 64, -64, -65, 8_191, 8_192, 1_700_000_000_000, 2**31, -(2**31), 2**63 - 1, -(2**63))
TEXTS = ("", "a", "é", "wf-1", "x" * 63, "x" * 64, "y" * 9_000, "\x00", "𝄞 ü")
CODEC = Codec()
NEWEST = {(schema.kind, schema.name): schema for schema in sorted(schemas.all_schemas(), key=lambda one: one.version)}
ALL = [pytest.param(schema, id=f"{schema.kind}/{schema.name}") for schema in NEWEST.values()]
"""What is written: the newest version of each record."""
OLDER = [schema for schema in schemas.all_schemas() if schema.version < NEWEST[schema.kind, schema.name].version]


def value_of(hint: Any, rng: random.Random) -> Any:
    """A random value of a type; optional parts are there half of the time."""
    if hint == rows.Message:
        return Reply(*(value_of(part, rng) for part in typing.get_type_hints(Reply).values()))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = next(part for part in typing.get_args(hint) if part is not types.NoneType)
        return value_of(inner, rng) if rng.random() < 0.5 else None
    if typing.get_origin(hint) is tuple:
        return tuple(value_of(typing.get_args(hint)[0], rng) for _ in range(rng.choice((0, 0, 1, 3))))
    if is_named_tuple(hint):
        hints = typing.get_type_hints(hint)
        # Defaults are values of their own here: they are shared objects, written from constants.
        return hint(
            *(
                hint._field_defaults[name]
                if name in hint._field_defaults and rng.random() < 0.4
                else value_of(hints[name], rng)
                for name in hint._fields
            )
        )
    return {
        str: lambda: rng.choice(TEXTS),
        bytes: lambda: rng.randbytes(rng.choice((0, 1, 32, 70, 9_000))),
        int: lambda: rng.choice((*NUMBERS, rng.randrange(10_000))),
        float: lambda: rng.choice((0.0, -1.5, 1e300)),
        bool: lambda: rng.random() < 0.5,
    }[hint]()


def record_of(schema: schemas.Schema, rng: random.Random) -> Any:
    """A random record of a schema, as the engine holds it."""
    body = value_of(_classes()[schema.kind, schema.name], rng)
    outer = {"events": Event, "commands": Command}.get(schema.kind)
    if outer is None:
        return body
    hints = typing.get_type_hints(outer)
    fields = {name: value_of(hints[name], rng) for name in outer._fields if name != "body"}
    return outer(body=body, **fields)


def datum_of(value: Any) -> Any:
    """What fastavro makes of a value: dictionaries and lists. A payload field that holds its default is null."""
    if is_named_tuple(type(value)):
        optional = {name for name, default in type(value)._field_defaults.items() if default == NOTHING}
        return {
            name: None if name in optional and part == NOTHING else datum_of(part)
            for name, part in value._asdict().items()
        }
    return [datum_of(part) for part in value] if isinstance(value, tuple) else value


def encoded(record: Any) -> bytes:
    """By the generated writer."""
    return CODEC.seal(record).value if isinstance(record, Event) else CODEC.encode(record)


def decoded(schema: schemas.Schema, data: bytes) -> Any:
    """By the generated reader."""
    return CODEC.decode_event(CLAIM_KEY, data).event if schema.kind == "events" else CODEC.decode(data)


def expected(schema: schemas.Schema, record: Any) -> dict[str, Any]:
    """The record as fastavro must read it."""
    datum: dict[str, Any] = datum_of(record)
    if schema.kind in ("events", "commands"):
        datum |= datum.pop("body")
    if schema.name == "OutboxRow":
        datum["body"] = CODEC.encode(record.body)
    return datum


@pytest.mark.parametrize(
    "schema", [one for one in schemas.all_schemas() if one.kind == "events"], ids=lambda one: one.path.stem
)
def test_a_body_is_read_alone(schema: schemas.Schema, rng: random.Random) -> None:
    """Behind `prev_hash`, in records of every version."""
    read = CODEC.body_reader(schema.fingerprint)
    for _ in range(5):
        record = record_of(schema, rng)
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema.parsed, expected(schema, record))
        data = CODEC.framing.header(schema.fingerprint) + out.getvalue()
        whole = CODEC.decode_event(CLAIM_KEY, data).event
        behind = io.BytesIO()
        head = {**schema.parsed, "fields": schema.parsed["fields"][:9]}
        assert head["fields"][-1]["name"] == "prev_hash"
        fastavro.schemaless_writer(behind, head, expected(schema, record))
        assert read(data, 10 + len(behind.getvalue())) == (whole.body, len(data))


@pytest.mark.parametrize("schema", ALL)
def test_what_is_written_is_what_fastavro_writes_and_reads(schema: schemas.Schema, rng: random.Random) -> None:
    for _ in range(ROUNDS):
        record = record_of(schema, rng)
        data = encoded(record)
        want = expected(schema, record)
        assert fastavro.schemaless_reader(io.BytesIO(data[10:]), schema.parsed, None) == want
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema.parsed, want)
        assert data[10:] == out.getvalue()
        assert decoded(schema, data) == record


@pytest.mark.parametrize("schema", OLDER, ids=lambda schema: schema.path.stem)
def test_an_older_version_is_read_with_the_defaults_of_what_it_lacks(
    schema: schemas.Schema, rng: random.Random
) -> None:
    lacks = {field["name"] for field in NEWEST[schema.kind, schema.name].parsed["fields"]} - set(schema.fields)
    assert lacks
    for _ in range(ROUNDS):
        record = record_of(schema, rng)
        of_body = record if schema.kind in ("rows", "tasks") else record.body
        without = of_body._replace(**{name: type(of_body)._field_defaults[name] for name in lacks})
        record = without if of_body is record else record._replace(body=without)
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema.parsed, expected(schema, record))
        assert decoded(schema, b"\xc3\x01" + schema.fingerprint + out.getvalue()) == record


@pytest.mark.parametrize("schema", ALL)
def test_damaged_bytes_are_undecodable_or_another_value(schema: schemas.Schema, rng: random.Random) -> None:
    data = encoded(record_of(schema, rng))
    for end in {rng.randrange(10, max(11, len(data))) for _ in range(ROUNDS)} - {len(data)}:
        with pytest.raises(UndecodableRecord):
            decoded(schema, data[:end])
    for _ in range(ROUNDS * 5):
        at = rng.randrange(10, len(data)) if len(data) > 10 else 10
        mutant = data[:at] + rng.randbytes(rng.randrange(1, 4)) + data[at + rng.randrange(3) :]
        with contextlib.suppress(UndecodableRecord):
            decoded(schema, mutant)


def test_shared_values_come_back_as_the_same_object() -> None:
    event = Event("w", "r", 1, value_of(BatchFooter, random.Random(1)))
    found = CODEC.decode_event(CLAIM_KEY, CODEC.seal(event).value).event
    assert found.cause is event.cause


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_beyond_64_bits_is_refused(number: int) -> None:
    with pytest.raises(OverflowError, match="64 bits"):
        CODEC.encode(rows.IndexRow("w", number))
    data = CODEC.encode(rows.IndexRow("", 0))[:-1]
    with pytest.raises(UndecodableRecord, match="64 bits"):
        CODEC.decode(data + b"\xff" * 10 + b"\x01")


@pytest.mark.parametrize("value", [rows.IndexRow(None, 1), rows.IndexRow("w", "1"), rows.IndexRow("w", 1.5)])  # type: ignore[arg-type]
def test_a_value_of_another_type_is_refused(value: rows.IndexRow) -> None:
    with pytest.raises((TypeError, AttributeError)):
        CODEC.encode(value)


def test_threads_may_meet_a_record_type_for_the_first_time_at_once() -> None:
    """`functools.cached_property` has no lock from Python 3.12 on, and readers and writers share their numbering."""
    schema = next(schema for schema in schemas.all_schemas() if schema.name == "RunRow")
    cls = _classes()["rows", "RunRow"]
    problems: list[BaseException] = []

    def meet(compiler: Compiler, start: threading.Barrier) -> None:
        start.wait()
        try:
            compiler.reader(schema.parsed, cls)
            compiler.writer(schema.parsed, cls)
        except BaseException as error:
            problems.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            compiler, start = Compiler(), threading.Barrier(4)
            threads = [threading.Thread(target=meet, args=(compiler, start)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert problems == []
