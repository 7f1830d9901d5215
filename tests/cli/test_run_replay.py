"""`workflow replay`: files and directories of histories, repeated, diverged or not readable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran
from tests.cli.test_run_debug import APP, export, recorded

Run = Callable[..., Ran]


@pytest.mark.contract("replayer")
def test_histories_that_repeat(run: Run, tmp_path: Path) -> None:
    one = export(tmp_path / "one.jsonl", recorded(["pen", "ink"]))
    export(tmp_path / "two.json", recorded(["pen"]))
    ran = run(*APP, "workflow", "replay", str(tmp_path), one, "-o", "json")
    assert ran.code == 0
    assert [(Path(row["file"]).name, row["outcome"], row["turns"]) for row in ran.json] == [
        ("one.jsonl", "repeated", 3),
        ("two.json", "repeated", 2),
        ("one.jsonl", "repeated", 3),
    ]


@pytest.mark.contract("replayer")
def test_one_that_diverges_fails_and_the_others_are_still_looked_at(run: Run, tmp_path: Path) -> None:
    one = export(tmp_path / "a.jsonl", recorded(["pen"]))
    text = Path(one).read_text(encoding="utf-8")
    Path(one).write_text(text.replace('"name": "pack"', '"name": "wrap"'), encoding="utf-8")
    export(tmp_path / "b.jsonl", recorded(["pen"]))
    (tmp_path / "c.jsonl").write_text(json.dumps({"seq": 1}), encoding="utf-8")
    ran = run(*APP, "workflow", "replay", str(tmp_path), "-o", "json")
    assert ran.code == 1
    assert [row["outcome"] for row in ran.json] == ["Divergence", "repeated", "UndecodableRecord"]
    assert "history has step 'wrap'" in ran.json[0]["what"]


def test_an_empty_directory_is_said(run: Run, tmp_path: Path) -> None:
    ran = run(*APP, "workflow", "replay", str(tmp_path))
    assert ran.code == 2
    assert "holds no histories" in ran.err
