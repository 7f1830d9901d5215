"""Every manifest is valid for the oldest and the newest Kubernetes that we name, unknown fields refused."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.k8s.manifests import FOLDER, Manifest, kustomization, manifests

VERSIONS = ["1.32", "1.37"]


def title(manifest: Manifest) -> str:
    """`StatefulSet/engine`, for the names of tests."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", manifests(), ids=title)
def test_the_manifest_is_valid(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_an_unknown_field_is_refused() -> None:
    broken = copy.deepcopy(manifests("StatefulSet")[0])
    broken["spec"]["podManagmentPolicy"] = "Parallel"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


def test_every_file_is_listed() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(kustomization()["resources"])


def test_the_static_membership_patch_fits(tmp_path: Path) -> None:
    """The patch names an object and a path that exist; kubectl, where there is one, agrees."""
    component = yaml.safe_load((FOLDER / "static-membership" / "kustomization.yaml").read_text(encoding="utf-8"))
    (patch,) = component["patches"]
    (target,) = manifests(patch["target"]["kind"], patch["target"]["name"])
    (operation,) = yaml.safe_load(patch["patch"])
    assert operation["path"] == "/spec/template/spec/containers/0/env/-"
    assert isinstance(target["spec"]["template"]["spec"]["containers"][0]["env"], list)
    kubectl = shutil.which("kubectl")
    if kubectl:
        shutil.copytree(FOLDER, tmp_path / "k8s")
        whole = kustomization() | {"components": ["static-membership"]}
        (tmp_path / "k8s" / "kustomization.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
        command = [kubectl, "kustomize", str(tmp_path / "k8s")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "ORCHESTRATOR_KAFKA_GROUP_INSTANCE_ID" in done.stdout
