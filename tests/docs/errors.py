"""Every error as data: what the package can raise, refuse and record, and what tests have seen, read from source."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache

import orchestrator
from tests.architecture.source import python_files, tree

HERE = "orchestrator."
SKIPS = ("skip", "skipif", "xfail")
PLACES = {"rejected": 2, "_refuse": 1, "Reply": 4, "_replace": -1}
"""What is called to refuse, and which argument is the code; it may be given by name as well."""


@cache
def classes() -> dict[str, type[BaseException]]:
    """Every exception class of the package by name, but those whose name says that no other module knows them."""
    for module in pkgutil.walk_packages(orchestrator.__path__, HERE):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = [
        one for name, module in list(sys.modules.items()) if name.startswith(HERE) for one in vars(module).values()
    ]
    kinds = {one for one in found if inspect.isclass(one) and issubclass(one, BaseException)}
    ours = [one for one in kinds if one.__module__.startswith(HERE) and not one.__name__.startswith("_")]
    assert len({one.__name__ for one in ours}) == len(ours), "two of one name"
    return {one.__name__: one for one in ours}


@cache
def _nodes() -> tuple[ast.AST, ...]:
    """The package's source, node by node."""
    return tuple(node for path in python_files("orchestrator") for node in ast.walk(tree(path)))


@cache
def _calls() -> tuple[tuple[str, ast.Call], ...]:
    """Every call in the package, and the last word of what is called."""
    return tuple((_last(node.func), node) for node in _nodes() if isinstance(node, ast.Call))


def _last(node: ast.AST) -> str:
    """The last word of a dotted name, "" of anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@cache
def _constants() -> dict[str, str]:
    """Module-level names that stand for a text."""
    return {
        target.id: node.value.value
        for path in python_files("orchestrator")
        for node in tree(path).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _text(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value} - {""}
    known = _constants()
    return {known[node.id]} if isinstance(node, ast.Name) and node.id in known else set()


def codes() -> set[str]:
    """Codes that a command or a question can be refused with."""
    found = set[str]()
    for called, node in _calls():
        if called in PLACES:
            given = [word.value for word in node.keywords if word.arg == "code"]
            at = PLACES[called]
            given += node.args[at : at + 1] if at >= 0 else []
            found |= {text for one in given for text in _text(one)}
    return found


def failures() -> set[str]:
    """Types of failures that the engine or a worker records by itself, and no error of step code."""
    return {text for called, node in _calls() if called == "Failure" and node.args for text in _text(node.args[0])}


def made() -> set[str]:
    """Classes that the package calls, raises, or keeps in a table by which it calls them."""
    tables = [value for node in _nodes() if isinstance(node, ast.Dict) for value in node.values]
    raised = [node.exc for node in _nodes() if isinstance(node, ast.Raise) and node.exc is not None]
    return {called for called, _ in _calls()} | {_last(one) for one in [*tables, *raised]}


# -- what tests have seen ----------------------------------------------------------------------------------------------


@cache
def _tests() -> tuple[ast.AST, ...]:
    """Every test that no mark leaves out, node by node."""
    found: list[ast.AST] = []
    for path in python_files("tests"):
        body = tree(path).body if path.name.startswith("test_") else []
        for node in [*body, *(inner for outer in body if isinstance(outer, ast.ClassDef) for inner in outer.body)]:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                marks = {_last(one.func if isinstance(one, ast.Call) else one) for one in node.decorator_list}
                found += [] if marks & set(SKIPS) else ast.walk(node)
    return tuple(found)


def caught() -> set[str]:
    """Classes that `pytest.raises` has to catch in a test that does not raise them itself, or `isinstance` asserts."""
    found = exactly()
    for node in _tests():
        if isinstance(node, ast.With | ast.AsyncWith) and not any(isinstance(one, ast.Raise) for one in ast.walk(node)):
            called = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
            found |= {_last(call.args[0]) for call in called if _last(call.func) == "raises" and call.args}
        elif isinstance(node, ast.Assert) and isinstance(node.test, ast.Call) and _last(node.test.func) == "isinstance":
            found.add(_last(node.test.args[1]))
    return found


def exactly() -> set[str]:
    """Classes that a test names in `assert type(error) is X`: no class that derives from them will do."""
    return {
        _last(right)
        for left, operator, right in _compared()
        if isinstance(operator, ast.Is) and isinstance(left, ast.Call) and _last(left.func) == "type"
    }


def said(attribute: str) -> set[str]:
    """Texts that a test compares with an attribute of this name, by `==` in an assertion."""
    found = set[str]()
    for left, operator, right in _compared():
        nodes = [*ast.walk(left), *ast.walk(right)] if isinstance(operator, ast.Eq) else []
        if any(isinstance(node, ast.Attribute) and node.attr == attribute for node in nodes):
            found |= {text for node in nodes for text in _text(node)}
    return found


def _compared() -> Iterator[tuple[ast.expr, ast.cmpop, ast.expr]]:
    """What assertions of tests compare, by one operator."""
    for node in _tests():
        if isinstance(node, ast.Assert):
            for part in ast.walk(node.test):
                if isinstance(part, ast.Compare) and len(part.ops) == 1:
                    yield part.left, part.ops[0], part.comparators[0]
