"""The manifests of `k8s/` as data."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "k8s"
Manifest = dict[str, Any]


def kustomization() -> Manifest:
    """The list of files that belong together."""
    found: Manifest = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    return found


def manifests(kind: str | None = None, name: str | None = None) -> list[Manifest]:
    """Every document of every listed file, or those of one kind and name."""
    found = [item for item in _listed() if kind in (None, item["kind"])]
    return [item for item in found if name in (None, item["metadata"]["name"])]


@cache
def _listed() -> tuple[Manifest, ...]:
    texts = [(FOLDER / file).read_text(encoding="utf-8") for file in kustomization()["resources"]]
    found = tuple(item for text in texts for item in yaml.safe_load_all(text) if item)
    assert found, "no manifests: the rules would check nothing"
    return found


def one(kind: str, name: str) -> Manifest:
    """The manifest of that kind and name; there must be exactly one."""
    (found,) = manifests(kind, name)
    return found


def workloads() -> list[Manifest]:
    """Everything that runs pods."""
    return [item for item in manifests() if item["kind"] in {"StatefulSet", "Deployment", "Job"}]


def services() -> list[Manifest]:
    """The workloads that run for ever: one for each consumer."""
    return [item for item in workloads() if item["kind"] != "Job"]


def pod(workload: Manifest) -> Manifest:
    """The pod's spec."""
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Manifest) -> Manifest:
    """The one container; sidecars have no place here."""
    (only,) = pod(workload)["containers"]
    found: Manifest = only
    return found
