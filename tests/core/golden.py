"""Golden records: one encoded record of every released schema, which every later release must decode to the same value.

`python -m tests.core.golden --write` makes files for schemas that have none. It never rewrites one: a golden file that
does not fit any more is a broken release.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

from orchestrator.codec import schemas
from orchestrator.codec.records import Codec, _classes
from orchestrator.core import rows
from orchestrator.core.commands import Command
from orchestrator.core.events import Event
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Actor, BlobRef, Cause, Payload, ReplyTo

FOLDER = Path(__file__).parent / "golden"
KNOWN: dict[Any, Any] = {str: "t", int: 7, bool: True, bytes: b"\x00\xff", float: 1.5}
PAYLOAD = Payload("json", "key-1", b'{"a": 1}', BlobRef("s3", "blob", 70_000))


def sample(hint: Any, name: str = "") -> Any:
    """A value of a type, with every optional part present and no default left."""
    if hint == rows.Message:
        return Reply("c", "w", "r", "accepted")
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return sample(next(part for part in typing.get_args(hint) if part is not types.NoneType), name)
    if typing.get_origin(hint) is tuple:
        return (sample(typing.get_args(hint)[0], name), sample(typing.get_args(hint)[0], name))
    if hint is Payload:
        return PAYLOAD
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        hints = typing.get_type_hints(hint)
        return hint(*(sample(hints[field], field) for field in hint._fields))
    value = KNOWN[hint]
    return f"{name}-é" if hint is str else value


def example(codec: Codec, schema: schemas.Schema) -> tuple[bytes, bytes]:
    """Key and value of a record of a schema."""
    body = sample(_classes()[schema.kind, schema.name])
    if schema.kind == "events":
        cause = Cause("c-1", "a.commands", 3, 9, True, ReplyTo("a.replies", 2))
        event = Event("w", "r", 4, body, cause, 1_700_000_000_000, 2, 5, 1, b"\x01" * 32, "trace")
        record = codec.seal(event)
        return record.key, record.value
    if schema.kind == "commands":
        actor = Actor("person", "p", "o", "web", "verified")
        return b"w", codec.encode(Command("c-1", "w", body, actor, "why", 5, "trace", ReplyTo("a.replies", 2)))
    return b"", codec.encode(body)


def readable(value: Any) -> Any:
    """A record as JSON: named tuples by field, bytes in hex."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = value._asdict()  # type: ignore[attr-defined]
        return {"": type(value).__name__, **{name: readable(field) for name, field in fields.items()}}
    if isinstance(value, tuple | list):
        return [readable(part) for part in value]
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def decoded(codec: Codec, kind: str, key: bytes, value: bytes) -> Any:
    """What the codec makes of a record today."""
    return codec.decode_event(key, value).event if kind == "events" else codec.decode(value)


def path_of(schema: schemas.Schema) -> Path:
    """Where the schema's golden record lies."""
    return FOLDER / schema.kind / f"{schema.name}.v{schema.version}.json"


def main() -> None:
    """Write what is missing."""
    codec = Codec()
    for schema in schemas.all_schemas():
        path = path_of(schema)
        if path.exists():
            continue
        key, value = example(codec, schema)
        content = {"key": key.hex(), "value": value.hex(), "is": readable(decoded(codec, schema.kind, key, value))}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    main()
