"""Every command that a page names exists, with its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from orchestrator.cli.root import root
from tests.architecture.source import ROOT
from tests.docs.pages import SHELL, blocks, name, pages, spans


def lines(page: Path) -> Iterator[str]:
    """Command lines of `orchestrator` on a page."""
    yield from (span for span in spans(page) if span.startswith("orchestrator "))
    for block in blocks(page):
        if block.info in SHELL:
            for line in block.text.replace("\\\n", " ").splitlines():
                found = re.search(r"(?:^|\$\()(orchestrator .*)", line.removeprefix("$ "))
                if found:
                    yield re.split(r" [#|>] ?|\)\"", found[1])[0]


def wrong(line: str) -> str:
    """What is wrong with a command line; empty if nothing."""
    words = shlex.split(line)[1:]
    return next(filter(None, (_wrong_with(variant) for variant in _variants(words))), "")


def _variants(words: list[str]) -> Iterator[list[str]]:
    """`a b|c` stands for `a b` and `a c`."""
    at = next((n for n, word in enumerate(words) if re.fullmatch(r"[a-z-]+(\|[a-z-]+)+", word)), None)
    if at is None:
        yield words
    else:
        for choice in words[at].split("|"):
            yield [*words[:at], choice, *words[at + 1 :]]


def _wrong_with(words: list[str]) -> str:
    command: click.Command = root
    context = click.Context(root)
    options = _options(root)
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            option, _, value = word.partition("=")
            known = options.get(option)
            if known is None and option not in ("-h", "--help"):
                return f"{command.name} has no option {option}"
            skip = known is not None and not value and not getattr(known, "is_flag", False)
        elif isinstance(command, click.Group) and re.fullmatch(r"[a-z-]+", word):
            found = command.get_command(context, word)
            if found is None:
                return f"{command.name} has no command {word}"
            command = found
            options |= _options(command)
    return ""


def _options(command: click.Command) -> dict[str, click.Parameter]:
    return {option: one for one in command.params if isinstance(one, click.Option) for option in one.opts}


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    found = {line: problem for line in lines(page) if (problem := wrong(line))}
    assert not found


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {span.split()[1] for span in spans(page) if re.match(r"make [a-z]", span)}
    assert named <= targets


def test_the_runbook_names_commands() -> None:
    assert len(list(lines(ROOT / "docs/runbook.md"))) >= 10


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("orchestrator workflow show ID", ""),
        ("orchestrator step complete|fail|retry ID 0:3", ""),
        ("orchestrator --app-name shop workflow history ID -o json", ""),
        ("orchestrator workflow dance ID", "workflow has no command dance"),
        ("orchestrator step complete|lose ID", "step has no command lose"),
        ("orchestrator doctor --loudly", "doctor has no option --loudly"),
    ],
)
def test_the_rule_sees_a_wrong_command(line: str, problem: str) -> None:
    assert wrong(line) == problem
