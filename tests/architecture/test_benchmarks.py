"""The floor that steps are measured against stays one page of bare Kafka."""

from __future__ import annotations

import sys

from tests.architecture.source import ROOT, imports

FLOOR = ROOT / "benchmarks" / "floor.py"
MOST_LINES = 60


def test_the_floor_is_short_and_knows_only_kafka() -> None:
    text = FLOOR.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    imported = {one.module.partition(".")[0] for one in imports(FLOOR)}
    assert imported - sys.stdlib_module_names == {"confluent_kafka"}
