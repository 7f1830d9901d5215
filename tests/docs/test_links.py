"""Links of the documentation resolve, and every file that a page names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.docs.pages import name, pages, prose, spans

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"(?:tests|orchestrator|consumers|schemas|examples|benchmarks|k8s|docs|requirements)/[\w./*-]*")
PROMISE = re.compile(
    r"coming soon|stay tuned|to be (?:written|done|decided)|\bTBD\b|\broadmap\b|work in progress", re.I
)


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as GitHub makes them."""
    heads = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken(page: Path) -> list[str]:
    """Links of a page that lead nowhere in this checkout. Links to elsewhere are not followed."""
    found = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_resolve(page: Path) -> None:
    assert not broken(page)


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = {span for span in spans(page) if FILE.fullmatch(span)}
    assert not sorted(span for span in named if not [*ROOT.glob(span), *ROOT.glob(f"{span}.*")])


@pytest.mark.parametrize("page", pages(), ids=name)
def test_a_page_promises_nothing(page: Path) -> None:
    assert not PROMISE.findall(page.read_text(encoding="utf-8"))


def test_the_rule_sees_a_broken_link(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A head\n[a](#a-head) [b](gone.md) [c](page.md#none) [d](https://example.org)\n", "utf-8")
    assert broken(page) == ["gone.md", "page.md#none"]
