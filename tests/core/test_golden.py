"""Records that were written once decode for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.codec import schemas
from orchestrator.codec.records import Codec
from tests.core.golden import FOLDER, decoded, path_of, readable

FILES = sorted(FOLDER.rglob("*.json"))


def test_every_schema_has_a_golden_record() -> None:
    missing = [schema.path.name for schema in schemas.all_schemas() if not path_of(schema).exists()]
    assert not missing, "run python -m tests.core.golden --write"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_golden_record_decodes_to_what_it_was(path: Path) -> None:
    golden = json.loads(path.read_text(encoding="utf-8"))
    found = decoded(Codec(), path.parent.name, bytes.fromhex(golden["key"]), bytes.fromhex(golden["value"]))
    assert _covers(readable(found), golden["is"])


def _covers(now: object, then: object) -> bool:
    """Whether a value has everything that it had; fields that a later release added are allowed."""
    if isinstance(then, dict) and isinstance(now, dict):
        return then.keys() <= now.keys() and all(_covers(now[name], part) for name, part in then.items())
    if isinstance(then, list) and isinstance(now, list):
        return len(now) == len(then) and all(map(_covers, now, then))
    return now == then


def test_the_comparison_sees_a_changed_value() -> None:
    assert _covers({"a": [1, {"b": 2}], "new": 0}, {"a": [1, {"b": 2}]})
    assert not _covers({"a": [1, {"b": 3}]}, {"a": [1, {"b": 2}]})
    assert not _covers({"a": [1]}, {"a": [1], "gone": 0})
