"""The table of the contract cannot lie: it is what the tests say; a line has a test or says that it has none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.table import PAGE, ROOT, code_of, page, proofs, sections

LINES = {line["id"]: line for section in sections() for line in section["lines"]}


def test_the_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m tests.contract.table --write"


def test_every_mark_names_a_line() -> None:
    assert {proof.line for proof in proofs()} <= LINES.keys()


def test_a_line_has_a_test_or_says_what_is_missing() -> None:
    proved = {proof.line for proof in proofs()}
    assert [line for line in LINES if line not in proved and not LINES[line].get("missing")] == []


def test_a_line_is_proved_on_both_logs_or_says_why() -> None:
    logs: dict[str, set[str]] = {name: set() for name in LINES}
    for proof in proofs():
        logs[proof.line] |= {"memory", "broker"} if proof.logs == "both" else {proof.logs}
    alone = {name for name, found in logs.items() if found != {"memory", "broker"} and not LINES[name].get("missing")}
    assert alone == {name for name, line in LINES.items() if "only" in line}


def test_every_manual_section_exists() -> None:
    for line in LINES.values():
        for kind in ("manual", "example"):
            path, _, anchor = line.get(kind, "").partition("#")
            if not path:
                continue
            text = (ROOT / "docs" / path).read_text("utf-8")
            headings = {row.lstrip("# ").lower().replace(" ", "-") for row in text.splitlines() if row.startswith("#")}
            assert not anchor or anchor in headings, f"{line['id']}: {path} has no heading {anchor}"


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_every_line_is_shown_in_code(line: dict[str, Any]) -> None:
    """In the manual's section, or in that of the example; what is Python there is run by `tests/docs`."""
    code = "\n".join(code_of(line[kind]) for kind in ("manual", "example") if kind in line)
    assert line["shows"], "what of it is to be seen"
    assert [words for words in line["shows"] if words not in code] == []
