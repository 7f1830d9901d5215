"""The Python of a page runs: its blocks, in their order, as one module. A block marked `python no-run` is compiled
only."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.docs.pages import blocks, name, pages

pytestmark = pytest.mark.slow

ELSEWHERE = {"docs/produce-a-command.md": "tests/client/test_produce_command.py"}
"""Pages whose code another test runs."""


def runnable(page: Path) -> str:
    """The page's Python as one module, each block at its line, so that a traceback points into the page."""
    lines: list[str] = []
    for block in blocks(page):
        if block.info == "python":
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n" if lines else ""


PAGES = [page for page in pages() if name(page) not in ELSEWHERE and runnable(page)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    module = tmp_path / f"{page.stem.lower().replace('-', '_')}.py"
    module.write_text(runnable(page), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(module)],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{name(page)}:\n{done.stdout}{done.stderr}"


def test_blocks_that_do_not_run_compile() -> None:
    for page in pages():
        for block in blocks(page):
            if block.info.startswith("python"):
                assert block.info in ("python", "python no-run"), f"{name(page)}:{block.line}: ```{block.info}"
                compile(block.text, f"{name(page)}:{block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_pages_run_elsewhere_are_run() -> None:
    for page, test in ELSEWHERE.items():
        assert (ROOT / page).exists()
        assert (ROOT / test).exists()


def test_the_tutorial_runs() -> None:
    assert {"README.md", "docs/tutorial.md"} <= {name(page) for page in PAGES}
