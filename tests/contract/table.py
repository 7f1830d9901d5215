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
IN_A_MODE = {"world", "memory"}
"""Fixtures of `tests/contract` whose engines run in the mode that `--mode` names."""


class Proof(NamedTuple):
    """A test that names a line. `logs`: memory, broker or both; `modes`: in which modes it runs, empty if in none."""

    line: str
    path: str
    test: str
    logs: str
    modes: str


class Fixture(NamedTuple):
    """What a fixture says of itself. `logs`: those that its parameters name; `needs`: its own fixtures."""

    logs: frozenset[str]
    needs: frozenset[str]
    always: bool


def sections() -> list[dict[str, Any]]:
    """The contract as `lines.toml` has it."""
    found: list[dict[str, Any]] = tomllib.loads(LINES.read_text("utf-8"))["section"]
    return found


def proofs(root: Path = ROOT) -> list[Proof]:
    """Every test with a mark, by path and place."""
    return [proof for path in sorted((root / "tests").rglob("test_*.py")) for proof in _proofs_of(path, root)]


def _proofs_of(path: Path, root: Path) -> Iterator[Proof]:
    text = path.read_text("utf-8")
    if "mark.contract" not in text:
        return
    tree, where = ast.parse(text), path.relative_to(root)
    known = _conftests(path.parent, root) | _fixtures_in(tree)
    of_module = [mark for node in tree.body if isinstance(node, ast.Assign) for mark in _marks_in(node.value)]
    for node in _functions(tree):
        if not node.name.startswith("test_"):
            continue
        marks = [*of_module, *(mark for one in node.decorator_list for mark in _marks_in(one))]
        named = (name for kind, names in marks if kind == "usefixtures" for name in names)
        used = _closure({*_arguments(node), *named}, known)
        logs = _logs(used, known, any(name == "broker" for name, _ in marks))
        modes = _modes(used) if where.parts[:2] == ("tests", "contract") else ""
        for line in (line for kind, lines in marks if kind == "contract" for line in lines):
            yield Proof(line, where.as_posix(), node.name, logs, modes)


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> frozenset[str]:
    return frozenset(argument.arg for argument in (*node.args.args, *node.args.kwonlyargs))


def _conftests(directory: Path, root: Path) -> dict[str, Fixture]:
    """Fixtures that tests of a directory have without naming a module: the nearer hides the farther."""
    found: dict[str, Fixture] = {}
    for place in (*reversed(directory.relative_to(root).parents), directory.relative_to(root)):
        if (path := root / place / "conftest.py").exists():
            found |= _fixtures_in(ast.parse(path.read_text("utf-8")))
    return found


def _fixtures_in(tree: ast.Module) -> dict[str, Fixture]:
    found = {}
    for node in _functions(tree):
        for decorator in node.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(call) == "pytest.fixture":
                words = decorator.keywords if isinstance(decorator, ast.Call) else []
                given = {word.arg: word.value for word in words}
                found[node.name] = Fixture(_logs_in(given.get("params")), _arguments(node), "autouse" in given)
    return found


def _logs_in(params: ast.expr | None) -> frozenset[str]:
    """The logs of a fixture's parameters: those marked `broker`, and the rest."""
    each = params.elts if isinstance(params, ast.List) else []
    return frozenset("broker" if "pytest.mark.broker" in ast.unparse(one) else "memory" for one in each)


def _closure(names: set[str], known: dict[str, Fixture]) -> set[str]:
    """Fixtures, those that they need, and those that nobody has to name."""
    found: set[str] = set()
    left = {*names, *(name for name, fixture in known.items() if fixture.always)}
    while left:
        name = left.pop()
        found.add(name)
        left |= (known[name].needs if name in known else set()) - found
    return found


def _logs(used: set[str], known: dict[str, Fixture], broker: bool) -> str:
    logs = set[str]().union(*(known[name].logs for name in used if name in known))
    if broker:
        return "broker"
    return "both" if len(logs) > 1 else "memory"


def _modes(used: set[str]) -> str:
    if not used & IN_A_MODE:
        return ""
    without = [mode for mode in MODES if any(skip.mode == mode and skip.of in used for skip in SKIPS)]
    return f"modes but {', '.join(without)}" if without else "modes"


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
        "Tests of `tests/contract` also run in every engine mode (`make modes`), but in those that stand beside them:",
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
        f"({', '.join(filter(None, (proof.logs, proof.modes)))})"
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
