"""Both wire formats: every record type comes back; what is not framed so is refused with a reason."""

from __future__ import annotations

import pytest

from orchestrator.codec import schemas
from orchestrator.codec.framing import Confluent, Framing, SingleObject
from orchestrator.codec.records import Codec
from orchestrator.errors import UndecodableRecord
from tests.core.golden import decoded, example

IDS = {schema.fingerprint: 100_000 + number for number, schema in enumerate(schemas.all_schemas())}
FRAMINGS: list[Framing] = [SingleObject(), Confluent(IDS)]


@pytest.mark.parametrize("framing", FRAMINGS, ids=["single-object", "confluent"])
@pytest.mark.parametrize("schema", schemas.written_schemas(), ids=lambda schema: f"{schema.kind}/{schema.name}")
def test_every_record_comes_back(schema: schemas.Schema, framing: Framing) -> None:
    codec = Codec(framing)
    key, value = example(codec, schema)
    plain = Codec()
    assert decoded(codec, schema.kind, key, value) == decoded(plain, schema.kind, *example(plain, schema))
    if schema.kind != "rows":
        assert value.startswith(framing.header(schema.fingerprint))


def test_confluent_s_header_is_its_magic_byte_and_four_bytes_of_id() -> None:
    schema = schemas.all_schemas()[0]
    assert Confluent({schema.fingerprint: 258}).header(schema.fingerprint) == b"\x00\x00\x00\x01\x02"
    assert Confluent({schema.fingerprint: 258}).split(b"\x00\x00\x00\x01\x02rest") == (schema.fingerprint, 5)


def test_single_object_is_the_marker_and_the_fingerprint() -> None:
    schema = schemas.all_schemas()[0]
    assert SingleObject().header(schema.fingerprint) == b"\xc3\x01" + schema.fingerprint
    assert len(schema.fingerprint) == 8


@pytest.mark.parametrize("value", [b"", b"\xc3", b"\xc3\x01short", b"\x00\x00\x00\x00\x01x", b"{}"])
def test_what_is_not_single_object_is_refused(value: bytes) -> None:
    with pytest.raises(UndecodableRecord, match="single-object"):
        SingleObject().split(value)


@pytest.mark.parametrize("value", [b"", b"\x00\x00\x00\x00", b"\xc3\x01" + b"\x00" * 8, b"\x00\x00\x00\x00\x09x"])
def test_what_is_not_confluent_s_is_refused(value: bytes) -> None:
    with pytest.raises(UndecodableRecord):
        Confluent(IDS).split(value)


def test_an_unregistered_schema_is_named() -> None:
    with pytest.raises(UndecodableRecord, match="not registered"):
        Confluent({}).header(b"\x01" * 8)


@pytest.mark.parametrize("schema", schemas.all_schemas()[:20], ids=lambda schema: schema.name)
def test_a_cut_or_lengthened_record_is_refused(schema: schemas.Schema) -> None:
    codec = Codec()
    _, value = example(codec, schema)
    for bent in (value[:-1], value + b"\x00"):
        with pytest.raises(UndecodableRecord, match=schema.name):
            codec.decode(bent)
