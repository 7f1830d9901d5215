"""Deployables hold no logic, and every one of them is deployed: compose services and manifests match one to one."""

from __future__ import annotations

import ast
from pathlib import Path

import yaml

from tests.architecture.source import ROOT, python_files, tree

LINES = 40
WORKLOADS = {"Deployment", "StatefulSet"}


def consumers() -> dict[str, Path]:
    """The deployables by name."""
    return {path.stem: path for path in python_files("consumers") if path.name != "__init__.py"}


def test_consumers_are_short_and_define_nothing() -> None:
    for name, path in consumers().items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES, f"{name}: logic belongs to orchestrator/"
        defined = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.For)]
        assert not defined, f"{name} defines something of its own"


def runs(container: dict[str, object]) -> str | None:
    """The consumer that a container starts: `python consumers/<name>.py`."""
    words = [str(word) for key in ("entrypoint", "command", "args") for word in _words(container.get(key))]
    named = [Path(word).stem for word in words if word.startswith("consumers/")]
    return named[0] if named else None


def _words(value: object) -> list[object]:
    assert value is None or isinstance(value, list), f"exec form is a list, a string starts a shell: {value!r}"
    return value or []


def test_compose_runs_each_consumer_once() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    started = {name: runs(service) for name, service in services.items() if runs(service)}
    assert started == {name: name for name in consumers()}


def test_each_consumer_has_one_workload_of_its_name() -> None:
    found = []
    for path in sorted((ROOT / "k8s").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document and document["kind"] in WORKLOADS:
                containers = document["spec"]["template"]["spec"]["containers"]
                found += [(document["metadata"]["name"], runs(container)) for container in containers]
    assert sorted(found) == sorted((name, name) for name in consumers())
