"""The mark that a process leaves when it ends in a turn: read once, and never worth a partition."""

from __future__ import annotations

from pathlib import Path

from orchestrator.engine.mark import Mark


def test_what_was_on_is_told_once(tmp_path: Path) -> None:
    first = Mark(tmp_path / "app", 3)
    first.on("a-long-id", "r1")
    first.on("w", "r2")
    second = Mark(tmp_path / "app", 3)
    assert (second.take(), second.take()) == ("w (run r2)", "")
    second.on("w", "r3")
    second.off()
    assert Mark(tmp_path / "app", 3).take() == ""
    assert Mark(tmp_path / "app", 4).take() == ""


def test_a_place_that_takes_no_file_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    mark = Mark(tmp_path / "file", 0)
    mark.on("ü" * 600, "r1")
    assert Mark(None, 0).take() == ""
