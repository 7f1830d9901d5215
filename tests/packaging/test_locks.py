"""The dependencies: six in the base install, extras for the rest, all of them locked by hash and in step."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.architecture.source import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
BASE = {"confluent-kafka", "fastavro", "rocksdict", "pydantic", "opentelemetry-sdk", "click"}
LOCKS = {"base": [], "audit": ["audit"], "s3": ["audit", "s3"], "demo": ["demo"], "dev": ["dev"]}
PIN = re.compile(r"^([a-z0-9.-]+)(?:\[[a-z,]+\])?==(\S+)(?: ; (.+?))? \\$", re.MULTILINE)
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PLATFORMS = [("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64")]


def text(lock: str) -> str:
    """One lock file."""
    return (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")


def pins(lock: str) -> dict[str, set[tuple[str, str]]]:
    """Name → its (version, marker) pairs."""
    found: dict[str, set[tuple[str, str]]] = {}
    for name, version, marker in PIN.findall(text(lock)):
        found.setdefault(name, set()).add((version, marker))
    assert found, f"{lock}.txt holds nothing"
    return found


def wanted(extras: list[str]) -> list[Requirement]:
    """What pyproject.toml asks for with those extras, our own extras unfolded."""
    asked = [Requirement(line) for line in PROJECT["dependencies"]]
    rest = list(extras)
    while rest:
        for line in EXTRAS[rest.pop()]:
            item = Requirement(line)
            if item.name == PROJECT["name"]:
                rest += item.extras
            else:
                asked.append(item)
    return asked


def test_the_base_install_is_the_six_named_packages() -> None:
    assert {Requirement(line).name for line in PROJECT["dependencies"]} == BASE


def test_the_distribution_has_a_name_of_its_own() -> None:
    assert PROJECT["name"] == "durable-orchestrator"
    assert PROJECT["scripts"] == {"orchestrator": "orchestrator.cli.main:main"}


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_satisfies_pyproject(lock: str) -> None:
    locked = pins(lock)
    for item in wanted(LOCKS[lock]):
        assert item.name in locked, f"{item.name} is not in {lock}.txt: make lock"
        for version, _ in locked[item.name]:
            assert item.specifier.contains(version), f"{item.name} {version} in {lock}.txt, wanted {item.specifier}"


@pytest.mark.parametrize("lock", [*LOCKS, "build"])
def test_every_entry_has_hashes(lock: str) -> None:
    entries = [block for block in re.split(r"\n(?=[a-z0-9])", text(lock)) if block.strip()]
    assert len(entries) == sum(len(versions) for versions in pins(lock).values())
    assert not [block.split()[0] for block in entries if "--hash=sha256:" not in block]


@pytest.mark.parametrize("lock", [*LOCKS, "build"])
def test_the_lock_names_no_place(lock: str) -> None:
    assert not re.search(r"://|^--?[a-z]", text(lock), re.MULTILINE), "an index or a local path leaked into the lock"


@pytest.mark.parametrize("lock", ["base", "audit", "s3", "demo", "build"])
def test_locks_agree_with_the_largest(lock: str) -> None:
    """`make test` after `make demo` adds packages and replaces none; the image builds with the versions tested."""
    whole = pins("dev")
    moved = {
        name: versions
        for name, versions in pins(lock).items()
        if {version for version, _ in versions} - {version for version, _ in whole.get(name, set())}
    }
    assert not moved, f"make lock: {moved}"


@pytest.mark.parametrize("lock", ["base", "audit", "s3", "demo"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS, ids=["linux-x86_64", "linux-arm64", "macos-arm64"])
def test_each_machine_gets_one_version_of_each(lock: str, python: str, platform: tuple[str, str, str]) -> None:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": platform[0],
        "platform_system": platform[1],
        "platform_machine": platform[2],
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }
    locked = pins(lock)
    for item in wanted(LOCKS[lock]):
        marked = [
            Requirement(f"{item.name}=={version}; {mark}" if mark else item.name) for version, mark in locked[item.name]
        ]
        fitting = [one for one in marked if one.marker is None or one.marker.evaluate(environment)]
        assert len(fitting) == 1, f"{item.name} on Python {python}, {platform}: {fitting}"


def test_versions_parse() -> None:
    for versions in pins("dev").values():
        assert all(Version(version) for version, _ in versions)
