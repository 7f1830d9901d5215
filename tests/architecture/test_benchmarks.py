"""The floor that steps are measured against stays one page of bare Kafka."""

from __future__ import annotations

import ast
import sys

from tests.architecture.source import ROOT

FLOOR = ROOT / "benchmarks" / "floor.py"
MOST_LINES = 60


def test_the_floor_is_short_and_knows_only_kafka() -> None:
    text = FLOOR.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"confluent_kafka"}
