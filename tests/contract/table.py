"""docs/semantics.md: every line of the contract of behaviour, the tests that prove it, and on which logs.

Generated from `lines.toml` and from the marks of the tests, read from their source: `python -m tests.contract.table
--write`. A test compares.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.contract.modes import MODES, SKIPS

ROOT = Path(__file__).resolve().parent.parent.parent
LINES = Path(__file__).parent / "lines.toml"
PAGE = ROOT / "docs" / "semantics.md"
BOTH = {"world", "load", "one"}
"""Fixtures that are an application on the log in memory, and then one on a real broker."""


class Proof(NamedTuple):
    """A test that names a line. `logs`: memory, broker or both; `modes`: whether it runs in every mode."""

    line: str
    path: str
    test: str
    logs: str
    modes: bool


def sections() -> list[dict[str, Any]]:
    """The contract as `lines.toml` has it."""
    found: list[dict[str, Any]] = tomllib.loads(LINES.read_text("utf-8"))["section"]
    return found


def proofs() -> list[Proof]:
    """Every test with a mark, by path and place."""
    return [proof for path in sorted((ROOT / "tests").rglob("test_*.py")) for proof in _proofs_of(path)]


def _proofs_of(path: Path) -> Iterator[Proof]:
    text = path.read_text("utf-8")
    if "mark.contract" not in text:
        return
    tree = ast.parse(text)
    of_module = [mark for node in tree.body if isinstance(node, ast.Assign) for mark in _marks_in(node.value)]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            marks = [*of_module, *(mark for one in node.decorator_list for mark in _marks_in(one))]
            arguments = {argument.arg for argument in node.args.args}
            both = bool(arguments & BOTH)
            broker = any(name == "broker" for name, _ in marks)
            logs = "both" if both else "broker" if broker else "memory"
            for line in (line for name, lines in marks if name == "contract" for line in lines):
                where = path.relative_to(ROOT).as_posix()
                yield Proof(line, where, node.name, logs, bool(arguments & {"world", "memory"}))


def _marks_in(node: ast.expr) -> Iterator[tuple[str, tuple[str, ...]]]:
    """pytest.mark.NAME and pytest.mark.NAME("line", ...), alone or in a list."""
    for part in node.elts if isinstance(node, ast.List | ast.Tuple) else [node]:
        call = part if isinstance(part, ast.Call) else None
        named = call.func if call else part
        if isinstance(named, ast.Attribute) and ast.unparse(named.value) == "pytest.mark":
            arguments = call.args if call else []
            yield named.attr, tuple(str(one.value) for one in arguments if isinstance(one, ast.Constant))


def page() -> str:
    """The text of docs/semantics.md."""
    by_line: dict[str, list[Proof]] = {}
    for proof in proofs():
        by_line.setdefault(proof.line, []).append(proof)
    out = [
        "# The contract of behaviour",
        "",
        "What you may rely on, clause by clause in the contract's own words (ours are in italics), with the tests",
        "that prove it. Generated from the tests by `python -m tests.contract.table --write`; a test compares.",
        "*both*: on the log in memory and on a real broker. A clause that is proved on one of them alone says why.",
        "Tests of `tests/contract` also run in every engine mode (`make modes`):",
        "",
        *(f"- `{name}`: {mode.what}{' (in CI)' if mode.in_ci else ''}" for name, mode in MODES.items()),
        "",
        "A mode leaves out nothing but what stands here; any other skip fails `make modes`.",
        "",
        "| mode | leaves out | because |",
        "|---|---|---|",
        *(f"| `{skip.mode}` | {skip.what} | {skip.reason} |" for skip in SKIPS),
        "",
    ]
    for section in sections():
        out += [f"## {section['title']}", "", "| line | proved by | manual |", "|---|---|---|"]
        for line in section["lines"]:
            out.append(f"| {_said(line)} | {_cell(line, by_line.get(line['id'], []))} | {_manual(line)} |")
        out.append("")
    return "\n".join(out)


def _said(line: dict[str, Any]) -> str:
    notes = [f"*{line[kind]}*" for kind in ("note", "only") if kind in line]
    return "<br>".join([line["text"], *notes]).replace("|", r"\|")


def _cell(line: dict[str, Any], found: list[Proof]) -> str:
    tests = [
        f"[{proof.test.removeprefix('test_').replace('_', ' ')}](../{proof.path}) "
        f"({proof.logs}{', modes' if proof.modes else ''})"
        for proof in found
    ]
    missing = line.get("missing")
    return "<br>".join([*tests, *([f"**missing**: {missing}"] if missing else [])])


def _manual(line: dict[str, Any]) -> str:
    targets = [line[kind] for kind in ("manual", "example") if kind in line]
    return ", ".join(f"[{target.partition('#')[0]}]({target})" for target in targets)


def code_of(target: str) -> str:
    """The code that a section of the manual shows, with those below it; without an anchor, the page's."""
    page, _, anchor = target.partition("#")
    found, inside, fenced, above = [], not anchor, False, 0
    for line in (ROOT / "docs" / page).read_text("utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and line.startswith("#") and anchor:
            level, title = len(line) - len(line.lstrip("#")), line.lstrip("# ").lower().replace(" ", "-")
            inside = title == anchor or (inside and level > above)
            above = level if title == anchor else above if inside else 0
        elif fenced and inside:
            found.append(line)
    return "\n".join(found)


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(), "utf-8")
    else:
        print(page())
