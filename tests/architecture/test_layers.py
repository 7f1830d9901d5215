"""Imports point down (design.md §10): every package of ours may name only those listed for it."""

from __future__ import annotations

import pytest

from tests.architecture.source import PACKAGE, imports, module_of, name_of, python_files

BASE = {"errors", "config", "core", "failpoints", "ending", "open_files"}
PORTS = BASE | {"codec", "log", "store", "telemetry"}
ENGINE = PORTS | {"sdk"}
TOP = ENGINE | {"engine", "client"}

# Left may import right. Whatever is not listed is forbidden, and so is a package that is not on the left.
MAY_IMPORT = {
    "errors": set(),
    "config": {"errors"},
    "failpoints": {"errors"},
    "ending": set(),
    "open_files": set(),
    "core": {"errors"},
    "codec": BASE,
    "log": BASE | {"codec", "telemetry"},
    "store": BASE | {"codec", "telemetry"},
    "telemetry": BASE,
    "sdk": BASE | {"codec", "telemetry"},  # knows nothing of Kafka or RocksDB
    "engine": ENGINE,
    "client": ENGINE,
    "devkafka": BASE | {"log", "telemetry"},
    "worker": TOP,
    "llm": TOP,
    "projections": TOP,
    "gateway": TOP | {"projections"},
    "testing": TOP | {"worker", "devkafka"},
    "cli": TOP | {"devkafka", "worker", "llm", "projections", "gateway", "testing"},
}
PUBLIC = {"__init__", "__main__"}  # orchestrator/__init__.py gathers the public names; __main__ starts the cli


def package_of(module: str) -> str | None:
    """`orchestrator.core.ids` → `core`; `orchestrator` → `__init__`; a foreign module → None."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    return parts[1] if len(parts) > 1 else "__init__"


def offences(package: str, module: str) -> bool:
    """Whether code of `package` may not import `module`."""
    target = package_of(module)
    if package in PUBLIC or target is None or target == package:
        return False
    return target not in MAY_IMPORT.get(package, set())


def test_every_package_has_its_place() -> None:
    seen = {package_of(module_of(path)) for path in python_files(PACKAGE)}
    assert seen - PUBLIC <= MAY_IMPORT.keys(), "give the new package its place in MAY_IMPORT and in design.md §10"


def test_imports_point_down() -> None:
    found = [
        f"{name_of(path)}:{item.line} imports {item.module}"
        for path in python_files(PACKAGE)
        for item in imports(path)
        if offences(package_of(module_of(path)) or "", item.module)
    ]
    assert not found, "against the direction of imports:\n" + "\n".join(found)


def test_the_table_has_no_cycle() -> None:
    order: list[str] = []
    rest = dict(MAY_IMPORT)
    while rest:
        free = [name for name, below in rest.items() if below <= set(order)]
        assert free, f"packages that import each other: {sorted(rest)}"
        order += free
        for name in free:
            del rest[name]


@pytest.mark.parametrize(
    ("package", "module"),
    [("core", "orchestrator.log.tail"), ("sdk", "orchestrator.store"), ("engine", "orchestrator.cli.main")],
)
def test_the_rule_sees_an_offence(package: str, module: str) -> None:
    assert offences(package, module)


def test_consumers_import_only_an_entry_point() -> None:
    entries = {"cli", "gateway", "projections", "worker"}
    found = [
        f"{name_of(path)}:{item.line} imports {item.module}"
        for path in python_files("consumers")
        for item in imports(path)
        if item.module.split(".")[0] not in {"__future__", "sys", PACKAGE}
        or (item.module.startswith(PACKAGE) and package_of(item.module) not in entries)
    ]
    assert not found, "consumers hold no logic:\n" + "\n".join(found)
