"""The schema files, as a producer that has nothing else meets them."""

from __future__ import annotations

import io
import json
import typing
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest

from orchestrator.codec import schemas
from orchestrator.codec.records import Codec, _classes
from orchestrator.core.commands import Command

ALL = [pytest.param(schema, id=f"{schema.kind}/{schema.name}") for schema in schemas.all_schemas()]
COMMANDS = [pytest.param(schema, id=schema.name) for schema in schemas.all_schemas() if schema.kind == "commands"]
SAMPLES = {"string": "x", "long": 7, "boolean": True}


def types_of(schema: Any) -> Iterator[Any]:
    """Every type of a schema, nested ones included."""
    yield schema
    if isinstance(schema, list):
        for part in schema:
            yield from types_of(part)
    elif isinstance(schema, dict):
        yield from types_of(schema["type"]) if not isinstance(schema["type"], str) else ()
        yield from types_of(schema["items"]) if "items" in schema else ()
        for field in schema.get("fields", ()):
            yield from types_of(field["type"])


def sample(kind: Any) -> Any:
    """A value of a type, of records their required fields alone."""
    if isinstance(kind, str):
        return SAMPLES[kind]
    if kind["type"] == "record":
        return {field["name"]: sample(field["type"]) for field in kind["fields"] if "default" not in field}
    return [7 if kind["items"] in ("int", "long") else sample(kind["items"])]


def value_of(hint: Any, value: Any) -> Any:
    """The sample as the decoded command has it."""
    if isinstance(value, dict):
        return hint(**value)
    if isinstance(value, list):
        return tuple(value_of(typing.get_args(hint)[0], one) for one in value)
    return value


@pytest.mark.parametrize("schema", ALL)
def test_no_default_holds_bytes(schema: schemas.Schema) -> None:
    """Avro writes them as text in the schema, and not every library turns that into bytes (fastavro does not)."""
    for kind in types_of(json.loads(schema.path.read_text(encoding="utf-8"))):
        for field in kind.get("fields", ()) if isinstance(kind, dict) else ():
            if field.get("default") is not None:
                assert "bytes" not in types_of(field["type"]), f"{schema.path.name}: {field['name']}"


@pytest.mark.parametrize("schema", COMMANDS)
def test_a_command_of_its_required_fields_alone_is_written_by_fastavro_and_read_by_us(schema: schemas.Schema) -> None:
    source = json.loads(schema.path.read_text(encoding="utf-8"))
    required = {field["name"]: field["type"] for field in source["fields"] if "default" not in field}
    given = {name: sample(kind) for name, kind in required.items()}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(source, _force=True), given)
    command = Codec().decode_command(b"\xc3\x01" + schema.fingerprint + out.getvalue())
    head = {"id": given.pop("id"), "workflow_id": given.pop("workflow_id")}
    body = _classes()["commands", schema.name]
    hints = typing.get_type_hints(body)
    expected = {name: value_of(hints[name], value) for name, value in given.items()}
    assert command == Command(**head, body=body(**expected))
