"""Every example is clean under mypy --strict and pyright strict: the surface is typed end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(str(path) for path in (ROOT / "examples").rglob("*.py"))

pytestmark = pytest.mark.slow


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A type checker over all examples, from the checkout's top."""
    return subprocess.run(
        [sys.executable, "-m", *arguments, *FILES],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_mypy_strict(tmp_path: Path) -> None:
    done = run("mypy", "--strict", "--cache-dir", str(tmp_path))
    assert f"{len(FILES)} source file" in done.stdout, done.stdout + done.stderr
    assert not [line for line in done.stdout.splitlines() if line.startswith("examples")]


def test_pyright_strict() -> None:
    done = run("pyright", "--outputjson", "--pythonpath", sys.executable)
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] == len(FILES)
    assert not [f"{one['file']}: {one['message']}" for one in found["generalDiagnostics"] if one["severity"] == "error"]
