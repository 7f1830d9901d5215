"""The documentation as data: its pages, their links, code blocks, paths and commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.architecture.source import ROOT

SHELL = ("sh", "bash", "console")
"""What is written behind the fence of a block of command lines."""
_FENCE = re.compile(r"^ *```(?P<info>[^\n`]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block: what follows the fence, its text, and the line it begins on."""

    info: str
    text: str
    line: int


def pages() -> list[Path]:
    """Every page of documentation in the checkout."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("schemas/**/*.md"), *ROOT.glob("k8s/**/*.md")]
    assert len(found) > 10, "no pages: the rules would check nothing"
    return sorted(found)


def name(page: Path) -> str:
    """Relative to the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The page's fenced blocks, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(m["info"].strip(), m["text"], text.count("\n", 0, m.start()) + 2) for m in _FENCE.finditer(text)]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> Iterator[str]:
    """Text between single backticks."""
    return (match[1] for match in _SPAN.finditer(prose(page)))


def rows(page: Path, columns: int, section: str = "") -> list[list[str]]:
    """The rows of the page's tables that have so many columns, without heads and rules; of one section, or of all."""
    text, found = prose(page), []
    if section:
        _, _, behind = text.partition(f"\n## {section}\n")
        text, _, _ = behind.partition("\n## ")
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == columns and not set(line) <= set("|-: "):
            found.append(cells)
    return found
