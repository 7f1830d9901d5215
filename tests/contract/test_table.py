"""The table of the contract cannot lie: it is what the tests say; a line has a test or says that it has none."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.contract.modes import SKIPS
from tests.contract.table import PAGE, ROOT, code_of, page, proofs, sections

LINES = {line["id"]: line for section in sections() for line in section["lines"]}


def test_the_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m tests.contract.table --write"


CONFTEST = """
    import pytest

    @pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
    def world(request): ...

    @pytest.fixture
    def memory(): ...

    @pytest.fixture
    def held(): ...
"""
TESTS = """
    import pytest

    @pytest.fixture(scope="module")
    def one(kafka): ...

    @pytest.fixture
    def site(world, held): ...

    @pytest.mark.contract("a")
    def test_both(world): ...

    @pytest.mark.contract("b")
    def test_memory(memory): ...

    @pytest.mark.contract("c")
    @pytest.mark.usefixtures("held")
    def test_held(world): ...

    @pytest.mark.contract("d")
    def test_through_another(site): ...

    @pytest.mark.contract("e")
    @pytest.mark.broker
    def test_one(one): ...
"""


@pytest.mark.parametrize("directory", ["contract", "engine"])
def test_logs_and_modes_are_those_of_the_fixtures_whatever_their_names(tmp_path: Path, directory: str) -> None:
    """Only of `tests/contract` tests run in modes."""
    place = tmp_path / "tests" / directory
    place.mkdir(parents=True)
    (place / "conftest.py").write_text(dedent(CONFTEST), "utf-8")
    (place / "test_it.py").write_text(dedent(TESTS), "utf-8")
    found = {proof.line: (proof.logs, proof.modes) for proof in proofs(tmp_path)}
    wanted = {
        "a": ("both", "modes"),
        "b": ("memory", "modes but processes3"),
        "c": ("both", "modes but processes3"),
        "d": ("both", "modes but processes3"),
        "e": ("broker", ""),
    }
    ours = directory == "contract"
    assert found == {line: (logs, modes if ours else "") for line, (logs, modes) in wanted.items()}


def test_the_table_says_of_every_test_what_pytest_does_with_it(request: pytest.FixtureRequest) -> None:
    """Of those of this session: `make test` has them all."""
    told = {(proof.path, proof.test): proof for proof in proofs()}
    for item in request.session.items:
        if not isinstance(item, pytest.Function) or not item.get_closest_marker("contract"):
            continue
        proof = told[item.path.relative_to(ROOT).as_posix(), item.function.__name__]
        log = "broker" if item.get_closest_marker("broker") else "memory"
        assert proof.logs in (log, "both"), f"{item.nodeid} runs on {log}"
        for skip in SKIPS:
            if proof.modes and skip.of in item.fixturenames:
                assert skip.mode in proof.modes, item.nodeid


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
