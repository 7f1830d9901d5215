"""mypy --strict and pyright strict find every seeded mistake of `typed_use.py`, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests" / "client" / "typed_use.py"


def lines_marked(*marks: str) -> set[int]:
    """Lines that end with one of the marks."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith(marks)}


@pytest.mark.slow
@pytest.mark.contract("start-handles")
def test_mypy_strict(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(tmp_path),
        "--enable-error-code",
        "unused-awaitable",
    ]
    done = subprocess.run(
        [*command, str(FILE)],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    found = {
        int(line.split(":")[1]) for line in done.stdout.splitlines() if "typed_use.py" in line and ": error:" in line
    }
    assert found == lines_marked("# wrong", "# forgotten await"), done.stdout


@pytest.mark.slow
@pytest.mark.contract("start-handles")
def test_pyright_strict() -> None:
    # The checkout's own configuration: strict.
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(FILE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    found = {
        finding["range"]["start"]["line"] + 1
        for finding in json.loads(done.stdout)["generalDiagnostics"]
        if finding["severity"] == "error"
    }
    assert found == lines_marked("# wrong", "# forgotten await"), done.stdout
