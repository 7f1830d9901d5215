"""What the rules of this folder read: the tracked files, their syntax trees, their imports."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "orchestrator"
NOT_SOURCE = {".venv", ".git", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "build"}


@dataclass(frozen=True)
class Import:
    """One imported module at one line. `from a import b` gives `a.b` if that is a module of ours, else `a`."""

    module: str
    line: int


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the checkout that git does not ignore; without git (an unpacked archive) every file."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        done = None
    if done is not None and done.returncode == 0:
        found = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not NOT_SOURCE & set(path.relative_to(ROOT).parts)]
    return tuple(sorted(path for path in found if path.is_file()))


def name_of(path: Path) -> str:
    """The path as the messages and lists of this folder spell it."""
    return path.relative_to(ROOT).as_posix()


@cache
def python_files(*folders: str) -> tuple[Path, ...]:
    """The Python files under `folders` (without any: all). Raises when there is none: a rule must see its subject."""
    files = [path for path in tracked() if path.suffix == ".py"]
    if folders:
        files = [path for path in files if name_of(path).split("/")[0] in folders or name_of(path) in folders]
    if not files:
        raise AssertionError(f"no Python files under {folders or ROOT}: the rule would check nothing")
    return tuple(files)


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of one file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=name_of(path))


def module_of(path: Path) -> str:
    """`orchestrator/core/apply/timer.py` → `orchestrator.core.apply.timer`."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _is_ours(module: str) -> bool:
    target = ROOT / Path(*module.split("."))
    return target.is_dir() or target.with_suffix(".py").is_file()


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Every import of a file, wherever it stands (functions and `TYPE_CHECKING` too), relative ones resolved."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[Import]:
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module or "") if part)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(inner if _is_ours(inner) else base, node.lineno)
