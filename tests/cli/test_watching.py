"""Which files a reload sees, and what it refuses to start."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.cli.watching import SourceWatch, complaint


def test_python_files_that_came_went_or_changed(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    shop, gone = tmp_path / "shop.py", tmp_path / "inner" / "gone.py"
    shop.write_text("a = 1\n", encoding="utf-8")
    gone.write_text("", encoding="utf-8")
    watch = SourceWatch(tmp_path)
    assert watch.changed() == []
    shop.write_text("a = 22\n", encoding="utf-8")
    gone.unlink()
    new = tmp_path / "new.py"
    new.write_text("", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    assert watch.changed() == sorted([gone, new, shop])
    assert watch.changed() == []


def test_the_same_size_with_another_time_is_a_change(tmp_path: Path) -> None:
    shop = tmp_path / "shop.py"
    shop.write_text("a = 1\n", encoding="utf-8")
    watch = SourceWatch(tmp_path)
    os.utime(shop, ns=(1, 1))
    assert watch.changed() == [shop]


def test_environments_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    watch = SourceWatch(tmp_path)
    for folder in (".git", "__pycache__", "venv"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").write_text("", encoding="utf-8")
    (tmp_path / "venv" / "pyvenv.cfg").write_text("", encoding="utf-8")
    assert watch.changed() == []


def test_a_file_that_does_not_parse_is_named_with_its_line(tmp_path: Path) -> None:
    good, bad, gone = tmp_path / "a.py", tmp_path / "b.py", tmp_path / "c.py"
    good.write_text("a = 1\n", encoding="utf-8")
    bad.write_text("a = 1\ndef f(:\n", encoding="utf-8")
    assert complaint([good, gone]) == ""
    assert complaint([good, bad]).startswith(f"{bad}:2: ")
