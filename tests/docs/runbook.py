"""docs/runbook.md as data: the command lines of each entry, run as they stand there, and which tests run which.

A test says `hung = page("A hung transaction")`, then `hung("orchestrator doctor")`: the line must stand in that entry.
That every line is run by some test is read from the tests' syntax trees (`tried`).
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.architecture.source import ROOT
from tests.docs.pages import SHELL

PAGE = ROOT / "docs/runbook.md"
PROGRAMS = ("orchestrator ", "kafka-")
"""How command lines begin."""
VARIABLE = re.compile(r"[A-Z]{2,}(:[A-Z]+)?")
"""A word that the reader puts something in for."""
FIRST = "Runbook"
"""What stands before the first entry."""


class Line(NamedTuple):
    """A command line of an entry, without its comment."""

    entry: str
    text: str


def lines(text: str | None = None) -> list[Line]:
    """Every command line of the page, in order."""
    found: dict[Line, None] = {}
    entry, inside = FIRST, False
    for row in (PAGE.read_text(encoding="utf-8") if text is None else text).splitlines():
        if row.startswith("```"):
            inside = not inside and row[3:].strip() in SHELL
        elif inside:
            found |= {Line(entry, command): None for command in _commands(row)}
        elif row.startswith("## "):
            entry = row[3:].strip()
        else:
            found |= {Line(entry, span): None for span in re.findall(r"`([^`]+)`", row) if span.startswith(PROGRAMS)}
    return list(found)


def _commands(row: str) -> Iterator[str]:
    command = re.split(r"\s+#", row.strip())[0]
    if command.startswith(PROGRAMS):
        yield command


class Terminal(Protocol):
    """Where lines are run: with an application, a broker, their environment."""

    def line(self, words: Sequence[str], code: int) -> str: ...
    def background(self, words: Sequence[str]) -> subprocess.Popen[bytes]: ...


class Entry:
    """One entry of the page, in a place."""

    def __init__(self, name: str, place: Terminal, given: dict[str, str]) -> None:
        self.name = name
        self._place = place
        self._given = given

    def __call__(self, line: str, /, code: int = 0, **words: str) -> str:
        """Run a line as it stands in the entry, with `words` in place of its variables; what it printed.

        Its exit code must be `code`.
        """
        said = self._words(line, words)
        return self._place.line(said, code)

    def background(self, line: str, /, **words: str) -> subprocess.Popen[bytes]:
        """Start a line that goes on until it is told to end."""
        return self._place.background(self._words(line, words))

    def _words(self, line: str, words: dict[str, str]) -> list[str]:
        assert Line(self.name, line) in lines(), f"not a line of {self.name!r} in {PAGE.name}: {line}"
        return [self._word(part, words) for part in shlex.split(line)]

    def _word(self, part: str, words: dict[str, str]) -> str:
        if part in self._given:
            return self._given[part]
        if VARIABLE.fullmatch(part):
            return words[part]
        # The page's application is called shop.
        return re.sub(r"^shop(?=\.)", self._given["shop"], part)


def tried(directory: Path) -> set[Line]:
    """The lines that the tests of a directory run: `name = page(ENTRY)`, and `name(LINE)` in the same function."""
    found = set()
    for path in sorted(directory.glob("test_*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                found |= _tried_in(function)
    return found


def _tried_in(function: ast.FunctionDef) -> set[Line]:
    entries: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target, value in zip(_parts(node.targets[0]), _parts(node.value), strict=False):
                if isinstance(target, ast.Name) and _called(value) == "page":
                    entries[target.id] = _text_of(value)
    return {Line(entries[name], _text_of(node)) for node in ast.walk(function) if (name := _called(node)) in entries}


def _parts(node: ast.expr) -> list[ast.expr]:
    """What stands on one side of an assignment."""
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _called(node: ast.AST) -> str:
    """The name that a node calls, or whose `background` it calls."""
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Attribute) and called.attr == "background":
        called = called.value
    return called.id if isinstance(called, ast.Name) else ""


def _text_of(node: ast.AST) -> str:
    """The text that a call's first argument is."""
    assert isinstance(node, ast.Call)
    first = node.args[0]
    assert isinstance(first, ast.Constant)
    assert isinstance(first.value, str)
    return first.value
