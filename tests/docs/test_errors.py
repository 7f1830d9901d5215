"""docs/errors.md has every error that there is, and a test meets each: read from the source, so that it cannot lie."""

from __future__ import annotations

import pytest

from orchestrator.errors import OrchestratorError
from tests.architecture.source import ROOT
from tests.docs import errors
from tests.docs.pages import rows

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/errors.md"


def table(section: str) -> set[str]:
    """What a table of the page has a full row of."""
    found = rows(PAGE, 3, section)[1:]
    assert all(cell for row in found for cell in row), "when it is raised, and what to do"
    names = [name for row in found for name in row[0].split("`")[1::2]]
    assert len(names) == len(set(names)) == len(found)
    return set(names)


def test_every_class_has_its_row_and_every_row_its_class() -> None:
    assert table("Classes") | table("Inside") == set(errors.classes())
    assert not table("Classes") & table("Inside")
    public = {name for name, one in errors.classes().items() if issubclass(one, OrchestratorError)}
    assert public - table("Classes") == {"Abandoned", "BadRequest", "BrokenFrame", "InjectedFault"}


def test_every_class_is_met_by_a_test() -> None:
    """One that others derive from must be met itself, unless it only is their base."""
    every = errors.classes()
    bases = {name for name, one in every.items() if one.__subclasses__()}
    wanted = (table("Classes") - bases) | (bases & errors.made())
    assert wanted - errors.exactly() - (errors.caught() - bases) == set()


def test_every_code_has_its_row_and_every_row_its_code() -> None:
    assert table("Codes of refusals") == errors.codes()


def test_every_code_is_met_by_a_test() -> None:
    assert errors.codes() - errors.said("code") == set()


def test_every_name_of_a_failure_has_its_row_and_is_met_by_a_test() -> None:
    names = errors.failures() - set(errors.classes())
    assert table("Names of failures") == names
    assert names - errors.said("type") == set()


@pytest.mark.parametrize("name", ["ClaimLost", "StepTimeout", "RegistryUnavailable"])
def test_the_rules_see_what_they_are_about(name: str) -> None:
    assert name in errors.classes()
    assert name in errors.made()
    assert name in errors.caught()
    assert "nobody says this" not in errors.said("code")
