"""mypy --strict and pyright strict find every seeded mistake of `use.py`, nothing else, and nothing in `shop.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
FILES = [HERE / "use.py", HERE / "shop.py"]


def seeded() -> set[tuple[str, int]]:
    """Lines marked `# wrong`."""
    return {
        (file.name, number)
        for file in FILES
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if "  # wrong" in line
    }


def run(*command: str) -> str:
    """What a checker says."""
    done = subprocess.run(
        [sys.executable, "-m", *command, *map(str, FILES)],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.stdout


def test_mistakes_are_seeded() -> None:
    assert len(seeded()) >= 18


@pytest.mark.slow
@pytest.mark.contract("start-handles")
def test_mypy_strict() -> None:
    said = run("mypy", "--strict")
    found = {
        (Path(line.split(":")[0]).name, int(line.split(":")[1])) for line in said.splitlines() if ": error:" in line
    }
    assert found == seeded(), said


@pytest.mark.slow
@pytest.mark.contract("start-handles")
def test_pyright_strict() -> None:
    # The checkout's own configuration: strict.
    said = run("pyright", "--outputjson", "--pythonpath", sys.executable)
    found = {
        (Path(finding["file"]).name, finding["range"]["start"]["line"] + 1)
        for finding in json.loads(said)["generalDiagnostics"]
        if finding["severity"] == "error"
    }
    assert found == seeded(), said
