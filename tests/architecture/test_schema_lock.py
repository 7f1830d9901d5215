"""Released schemas do not change: fingerprint *and* text (a changed doc or default leaves the former alone)."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import fastavro.schema
import pytest

from tests.architecture.source import ROOT

SCHEMAS = ROOT / "schemas"
NAME = re.compile(r"(commands|events|tasks|rows)/[A-Z][A-Za-z0-9]*\.v[1-9][0-9]*\.avsc")
REMEDY = "a released file never changes: add a new version beside it (additive) or a new event (new meaning)"


def identity(text: str) -> dict[str, str]:
    """What the lock remembers of a schema text."""
    canonical = fastavro.schema.to_parsing_canonical_form(json.loads(text))
    return {
        "fingerprint": fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def released() -> dict[str, dict[str, str]]:
    """The lock."""
    lock: dict[str, dict[str, str]] = json.loads((SCHEMAS / "released.json").read_text(encoding="utf-8"))
    assert lock, "the lock is empty: the rule would check nothing"
    return lock


def files() -> dict[str, Path]:
    """Every file below `schemas/` but the lock and prose."""
    found = [path for path in SCHEMAS.rglob("*") if path.is_file() and path.suffix != ".md"]
    return {path.relative_to(SCHEMAS).as_posix(): path for path in found if path.name != "released.json"}


def test_schemas_holds_avro_only() -> None:
    strange = sorted(name for name in files() if not NAME.fullmatch(name))
    assert not strange, f"schemas/ holds <kind>/<Name>.v<N>.avsc and released.json only: {strange}"


def test_every_schema_is_locked_and_every_locked_schema_exists() -> None:
    assert files().keys() == released().keys()


@pytest.mark.parametrize("name", sorted(released()) if SCHEMAS.is_dir() else ["schemas/ is missing"])
def test_a_released_schema_is_unchanged(name: str) -> None:
    assert identity((SCHEMAS / name).read_text(encoding="utf-8")) == released()[name], f"{name}: {REMEDY}"


def test_versions_are_consecutive() -> None:
    versions: dict[str, set[int]] = {}
    for name in files():
        stem, version = name.removesuffix(".avsc").rsplit(".v", 1)
        versions.setdefault(stem, set()).add(int(version))
    gaps = {stem: sorted(found) for stem, found in versions.items() if found != set(range(1, len(found) + 1))}
    assert not gaps


def test_the_lock_sees_what_a_fingerprint_does_not() -> None:
    plain = '{"type": "record", "name": "A", "fields": [{"name": "x", "type": "long"}]}'
    documented = plain.replace('"name": "A"', '"name": "A", "doc": "changed"')
    assert identity(plain)["fingerprint"] == identity(documented)["fingerprint"]
    assert identity(plain) != identity(documented)
