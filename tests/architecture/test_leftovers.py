"""Nothing left behind: no promises, no switched-off tests, no names of one machine or of a package registry."""

from __future__ import annotations

import re

import pytest

from tests.architecture.source import name_of, tracked

TEXT = {".py", ".pyi", ".md", ".toml", ".yml", ".yaml", ".json", ".avsc", ".txt", ".sh", ".cfg", ".ini", ".properties"}
NAMES = {"Makefile", "Dockerfile", "run", ".gitignore", ".dockerignore"}

# Written in pieces, so that this file does not offend itself.
PROMISES = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
SWITCHED_OFF = re.compile(r"pytest\.(?:mark\.)?(?:sk" r"ip|skip" r"if|xf" r"ail|importor" r"skip)\b|unittest\.sk" r"ip")
MODES_TABLE = {f"tests/contract/{name}.py" for name in ("conftest", "run_modes", "test_modes")}
"""What leaves tests out in a mode: only by the documented table, each with its reason, and tests hold it to that."""
MACHINE = re.compile(r"/wo" r"rk/|/fa" r"rm/|/tmp/" r"t/|/ro" r"ot/|/home/[a-z]+/")
REGISTRY = re.compile(
    r"index-" r"url|GOPRO" r"XY=|find-" r"links\s*=|://(?:repo1?|registry|proxy|files|index|static)\.|py" r"pi\.org"
)  # fmt: skip


def texts() -> list[tuple[str, str]]:
    """Name and text of every tracked text file."""
    found = [
        (name_of(path), path.read_text(encoding="utf-8"))
        for path in tracked()
        if path.suffix in TEXT or path.name in NAMES
    ]
    assert found, "no text files: the rule would check nothing"
    return found


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a promise: do it or write an issue", PROMISES),
        ("a switched-off test: mend it or remove it", SWITCHED_OFF),
        ("a path of one machine", MACHINE),
        ("a package registry", REGISTRY),
    ],
)
def test_nothing_is_left_behind(what: str, pattern: re.Pattern[str]) -> None:
    found = [
        f"{name}:{number} {line.strip()[:100]}"
        for name, text in texts()
        if pattern is not SWITCHED_OFF or name not in MODES_TABLE
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"{what}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("# TO" "DO later", PROMISES),
        ("@pytest.mark.sk" "ip", SWITCHED_OFF),
        ("see /wo" "rk/shared", MACHINE),
        ("https://repo" ".example.org/x", REGISTRY),
    ],
)  # fmt: skip
def test_the_rule_sees_an_offence(text: str, pattern: re.Pattern[str]) -> None:
    assert pattern.search(text)
