"""`.ci/run` in a toy checkout: every stage runs, a failure is not swallowed, pytest's closing line stays visible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

MAKEFILE = """
environment-dev:
\t@echo installed
lint types:
\t@echo checked; exit {check}
test:
\t@echo "========= {closing} in 1.00s ========="; exit {test}
modes:
\t@echo modes
"""


def toy(folder: Path, check: int, test: int, closing: str) -> subprocess.CompletedProcess[str]:
    """Run `.ci/run` where make's targets end as told."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    (folder / "Makefile").write_text(MAKEFILE.format(check=check, test=test, closing=closing), encoding="utf-8")
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/true")
    settings = os.environ | {"PYTHON": sys.executable, "ORCHESTRATOR_BOOTSTRAP": "somewhere:9092"}
    return subprocess.run(
        [folder / ".ci" / "run"], env=settings, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_success_ends_with_the_table_and_the_closing_line(tmp_path: Path) -> None:
    done = toy(tmp_path, check=0, test=0, closing="7 passed")
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout[done.stdout.index("stage ") :]
    stages = [line.split()[0] for line in table.splitlines()[1:8]]
    assert stages == ["environment", "check", "tests", "modes", "demo", "wheel", "total"]
    assert "7 passed in 1.00s" in table


@pytest.mark.parametrize(("check", "test", "named"), [(1, 0, "check"), (0, 1, "tests"), (3, 2, "check tests")])
def test_a_failed_stage_fails_the_run_and_the_others_still_run(
    tmp_path: Path, check: int, test: int, named: str
) -> None:
    done = toy(tmp_path, check, test, closing="1 failed, 6 passed")
    assert done.returncode != 0
    assert f"ci: failed: {named}\n" in done.stdout
    assert "1 failed, 6 passed in 1.00s" in done.stdout[done.stdout.index("stage ") :]


def test_an_old_python_is_refused_with_a_sentence(tmp_path: Path) -> None:
    script = ROOT / ".ci" / "run"
    settings = os.environ | {"PYTHON": "/bin/false"}
    done = subprocess.run([script], env=settings, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stdout
