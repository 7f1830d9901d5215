"""Where files go, and locks that outlive the process that took them in its heirs only."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.devkafka import DevKafkaError, places


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ORCHESTRATOR_CACHE": "{}/own", "XDG_CACHE_HOME": "{}/xdg", "HOME": "{}/home"}, "own"),
        ({"XDG_CACHE_HOME": "{}/xdg", "HOME": "{}/home"}, "xdg/orchestrator"),
        ({"HOME": "{}/home"}, "home/.cache/orchestrator"),
    ],
)
def test_the_first_choice_wins(given: dict[str, str], expected: str, tmp_path: Path) -> None:
    environ = {name: text.format(tmp_path) for name, text in given.items()}
    assert places.cache_directory(environ) == tmp_path / expected
    assert (tmp_path / expected).is_dir()


def test_what_cannot_be_written_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = places.cache_directory({"HOME": str(tmp_path / "file")})
    assert found.parent == tmp_path
    assert found.stat().st_mode & 0o077 == 0


def test_a_chosen_place_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DevKafkaError, match=r"ORCHESTRATOR_CACHE=.*cannot be written"):
        places.cache_directory({"ORCHESTRATOR_CACHE": str(tmp_path / "file" / "x"), "HOME": str(tmp_path)})


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(DevKafkaError, match=r"the test needs 1000000000 MB, .* MB free: make room"):
        places.need_space(tmp_path, 10**9, "the test")


def test_a_lock_is_held_until_its_heirs_are_gone(tmp_path: Path) -> None:
    mine, other = places.FileLock(tmp_path / "lock"), places.FileLock(tmp_path / "lock")
    assert mine.take(0)
    assert not other.take(0)
    heir = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=(mine.descriptor,)
    )
    mine.release()
    assert not other.take(0)
    heir.communicate()
    assert other.take(0)
    other.release()
