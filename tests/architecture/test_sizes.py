"""Small units: files, functions, parameters. The exceptions are a list that only shrinks."""

from __future__ import annotations

import ast

from tests.architecture.source import ROOT, name_of, python_files, tree

FILE_LINES = 400
TEST_FILE_LINES = 600
FUNCTION_LINES = 70
PARAMETERS = 7

# What is allowed to be over a limit, for now. An entry that no longer is makes these tests fail: remove it.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
MANY_PARAMETERS: set[str] = set()


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a caller sees: `self` and `cls` do not count, `*args` and `**options` do."""
    spec = function.args
    names = [arg.arg for arg in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    if names and names[0] in {"self", "cls"}:
        names = names[1:]
    return len(names) + (spec.vararg is not None) + (spec.kwarg is not None)


def functions() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of the tree, named `path::qualified.name`."""
    found = []

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{name}{'.' if '::' in name and not name.endswith('::') else ''}{child.name}"
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((inner, child))
            visit(child, inner)

    for path in python_files():
        visit(tree(path), f"{name_of(path)}::")
    assert found, "no functions found: the rule would check nothing"
    return found


def judge(over: dict[str, int], allowed: set[str], limit: int) -> None:
    """Fail on anything over the limit that is not allowed, and on an allowance that is no longer needed."""
    new = [f"{name}: {size} > {limit}" for name, size in sorted(over.items()) if name not in allowed]
    assert not new, "over the limit; split it:\n" + "\n".join(new)
    stale = sorted(allowed - over.keys())
    assert not stale, f"within the limit now; remove from the list: {stale}"


def test_files_are_short() -> None:
    over = {}
    for path in python_files():
        limit = TEST_FILE_LINES if path.is_relative_to(ROOT / "tests") else FILE_LINES
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > limit:
            over[name_of(path)] = lines
    judge(over, LONG_FILES, FILE_LINES)


def test_functions_are_short() -> None:
    sizes = {name: (node.end_lineno or node.lineno) - node.lineno + 1 for name, node in functions()}
    judge({name: size for name, size in sizes.items() if size > FUNCTION_LINES}, LONG_FUNCTIONS, FUNCTION_LINES)


def test_functions_take_few_parameters() -> None:
    counts = {name: parameters(node) for name, node in functions()}
    judge({name: count for name, count in counts.items() if count > PARAMETERS}, MANY_PARAMETERS, PARAMETERS)


def test_the_rule_counts_what_a_caller_sees() -> None:
    module = ast.parse("def f(self, a, b, *rest, c, **more): pass")
    function = module.body[0]
    assert isinstance(function, ast.FunctionDef)
    assert parameters(function) == 5
