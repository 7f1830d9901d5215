"""Every error of the published list is one that somebody can meet."""

from __future__ import annotations

import ast
import inspect

from orchestrator import errors
from tests.architecture.source import ROOT


def classes() -> dict[str, type[BaseException]]:
    """The errors by name."""
    found = {name: one for name, one in vars(errors).items() if inspect.isclass(one)}
    return {name: one for name, one in found.items() if issubclass(one, errors.OrchestratorError)}


def made() -> set[str]:
    """Names that the package calls, or keeps in a table by which it calls them."""
    found: set[str] = set()
    for path in (ROOT / "orchestrator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            places = [node.func] if isinstance(node, ast.Call) else node.values if isinstance(node, ast.Dict) else []
            found |= {place.id for place in places if isinstance(place, ast.Name)}
            found |= {place.attr for place in places if isinstance(place, ast.Attribute)}
    return found


def test_each_is_raised_somewhere() -> None:
    every = classes()
    bases = {name for name, one in every.items() if one.__subclasses__()}
    assert sorted(set(every) - made() - bases) == []
