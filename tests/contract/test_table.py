"""The table of the contract cannot lie: it is what the tests say; a line has a test or says that it has none."""

from __future__ import annotations

from tests.contract.table import PAGE, ROOT, page, proofs, sections

LINES = {line["id"]: line for section in sections() for line in section["lines"]}


def test_the_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m tests.contract.table --write"


def test_every_mark_names_a_line() -> None:
    assert {proof.line for proof in proofs()} <= LINES.keys()


def test_a_line_has_a_test_or_says_what_is_missing() -> None:
    proved = {proof.line for proof in proofs()}
    assert [line for line in LINES if line not in proved and not LINES[line].get("missing")] == []


def test_every_manual_section_exists() -> None:
    for line in LINES.values():
        path, _, anchor = line.get("manual", "").partition("#")
        if path:
            text = (ROOT / "docs" / path).read_text("utf-8")
            headings = {row.lstrip("# ").lower().replace(" ", "-") for row in text.splitlines() if row.startswith("#")}
            assert not anchor or anchor in headings, f"{line['id']}: {path} has no heading {anchor}"
