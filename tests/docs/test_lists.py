"""Lists of the documentation are complete: invariants, words, decisions."""

from __future__ import annotations

import re

import pytest

from tests.architecture.source import ROOT
from tests.chaos.plugs import all_plugs
from tests.docs.pages import rows

WORDS = (
    "workflow run step turn command event rejection effect history log task queue signal query timer row changes",
    "partition lane claim footer void strike fence restore replay materialise",
)


@pytest.mark.parametrize("number", range(1, 13))
def test_every_invariant_names_the_tests_that_pin_it(number: int) -> None:
    found = [row for row in rows(ROOT / "docs/invariants.md", 4) if row[0] == f"I{number}"]
    assert len(found) == 1
    tests = re.findall(r"`(tests/[^`]+)`", found[0][2])
    assert tests
    assert not [test for test in tests if not list(ROOT.glob(test))]
    assert any(f"/test_i{number:02}_" in test for test in tests), "the test that is named after it"


def test_the_fault_table_is_complete_and_names_what_is_there() -> None:
    found = rows(ROOT / "docs/faults.md", 4)[1:]
    assert [row[0] for row in found] == [f"F{number}" for number in range(1, 47)]
    assert not [row[0] for row in found if not re.search(r"`(?:tests/|make )|class `|\]\(", row[2])]
    classes = {named for row in found for named in re.findall(r"class `(\w+)`", row[2])}
    assert classes
    assert classes <= all_plugs().keys()


def test_the_glossary_has_every_word() -> None:
    entries = {row[0].strip("*") for row in rows(ROOT / "docs/glossary.md", 2)}
    assert not [
        word for word in " ".join(WORDS).split() if not any(word in re.split(r"[^a-z-]+", entry) for entry in entries)
    ]


def test_decisions_are_numbered_and_listed() -> None:
    folder = ROOT / "docs/adr"
    files = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(file[:4]) for file in files] == list(range(len(files)))
    listed = re.findall(r"\]\(([0-9][^)]*)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == files
    for file in files[1:]:
        text = (folder / file).read_text(encoding="utf-8")
        assert "## Rejected" in text, f"{file}: what was not chosen, and why"


def test_the_manual_leads_to_every_page() -> None:
    front = ROOT / "docs/README.md"
    linked = {(front.parent / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", front.read_text("utf-8"))}
    pages = {
        *(ROOT / "docs").glob("*.md"),
        ROOT / "docs/adr/README.md",
        ROOT / "docs/reports",
        ROOT / "ARCHITECTURE.md",
    }
    assert not sorted(str(page.relative_to(ROOT)) for page in pages - linked - {front})
