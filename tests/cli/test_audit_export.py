"""`orchestrator audit export` over a real broker, and `audit verify --bundle` without one."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from orchestrator.codec.signing import NAMESPACE, SIGNER, Signer, public_path, signers_path
from orchestrator.engine.options import AnchorOptions, EngineOptions
from orchestrator.projections.bundle import MANIFEST, SIGNATURE
from tests.cli import audited
from tests.cli.conftest import Ran
from tests.cli.test_audit_replay import Run, rig, run
from tests.engine.rig import Rig
from tests.projections.test_bundle_kit import alone, openssh

__all__ = ["rig", "run"]
pytestmark = pytest.mark.broker


def exported(rig: Rig, run: Run, tmp_path: Path) -> Path:
    """The bundle of a log that two engines wrote, one after the other; beside it `exporter.pem` and `engine.pem`."""
    for name in ("engine", "exporter"):
        assert run("audit", "keygen", str(tmp_path / f"{name}.pem")).code == 0
    for workflow in ("one", "two"):
        engine = rig.engine(EngineOptions(anchors=AnchorOptions(Signer.load(tmp_path / "engine.pem"), every_s=0.2)))
        rig.start(workflow, audited.adds, 0)
        assert rig.result(workflow) == b"3"
        engine.stop(5.0)
    bundle = tmp_path / "whole.bundle"
    made = run("audit", "export", str(bundle), "--all", "--key", str(tmp_path / "exporter.pem"), "-o", "json")
    assert made.code == 0, made.err
    assert made.json["signed_heads"] >= 1
    return bundle


@pytest.mark.contract("audit-export")
def test_a_cluster_s_bundle_verifies_without_the_package(rig: Rig, run: Run, tmp_path: Path) -> None:
    done = alone(exported(rig, run, tmp_path), tmp_path / "engine.pem")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was found" in done.stdout
    assert "complete up to head" in done.stdout


@pytest.mark.contract("audit-export")
def test_openssh_says_who_exported_a_cluster_s_bundle(rig: Rig, run: Run, tmp_path: Path) -> None:
    """Where there is no `ssh-keygen`, that is what is said."""
    with zipfile.ZipFile(exported(rig, run, tmp_path)) as opened:
        opened.extract(SIGNATURE, tmp_path)
        text = opened.read(MANIFEST)
    check = ("-Y", "verify", "-I", SIGNER, "-n", NAMESPACE.decode(), "-s", SIGNATURE, "-f")
    for name, said, good in (("exporter", text, True), ("exporter", text + b" ", False), ("engine", text, False)):
        done = openssh(*check, str(signers_path(tmp_path / f"{name}.pem")), text=said, cwd=tmp_path)
        assert done is None or (done.returncode == 0) is good, done.stderr


@pytest.mark.contract("audit-export")
def test_a_bundle_verifies_where_there_is_no_kafka(
    rig: Rig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_key, key = tmp_path / "engine.pem", tmp_path / "exporter.pem"
    for place in (engine_key, key):
        assert run("audit", "keygen", str(place)).code == 0
    engine = rig.engine(EngineOptions(anchors=AnchorOptions(Signer.load(engine_key), every_s=0.2)))
    for workflow in ("one", "two"):
        rig.start(workflow, audited.adds, 0)
        assert rig.result(workflow) == b"3"
    engine.stop(5.0)
    whole, one = tmp_path / "whole.bundle", tmp_path / "one.bundle"
    unsigned = run("audit", "export", str(whole), "--all")
    assert unsigned.code == 2
    assert "audit keygen" in unsigned.err
    made = run("audit", "export", str(whole), "--all", "--key", str(key), "-o", "json")
    assert made.code == 0, made.err
    assert made.json["signed_heads"] >= 1
    assert made.json["absent_blobs"] == 0
    made = run("audit", "export", str(one), "--workflow", "one", "--key", str(key), "-o", "json")
    assert made.code == 0, made.err
    nobody = run("audit", "export", str(tmp_path / "none"), "--workflow", "nobody", "--key", str(key))
    assert nobody.code == 3
    assert not (tmp_path / "none").exists()
    empty = run("audit", "export", str(tmp_path / "none"), "--all", "--until", "2020-01-01", "--key", str(key))
    assert empty.code == 2
    assert "no whole batch" in empty.err

    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", "127.0.0.1:1")

    def verified(bundle: Path, *keys: Path) -> Ran:
        named = [word for place in keys for word in ("--anchor-key", str(public_path(place)))]
        return run("audit", "verify", "--bundle", str(bundle), *named)

    good = verified(whole, key, engine_key)
    assert good.code == 0, good.out + good.err
    assert "complete up to every partition's signed head" in good.out
    good = verified(whole, key)
    assert good.code == 0, good.out + good.err
    assert "by keys that were not given" in good.out
    good = verified(one, key)
    assert good.code == 0, good.out + good.err
    assert "with RunCompleted" in good.out
    for refused in (verified(whole, engine_key), verified(whole)):
        assert refused.code in (1, 2)
        assert "key" in refused.err
    with zipfile.ZipFile(whole) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(whole, "w") as made_again:
        for name, data in files.items():
            made_again.writestr(name, data.replace(b'"offset":0,', b'"offset":9,', 1))
    changed = verified(whole, key)
    assert changed.code == 1
    assert "jsonl is not what was signed" in changed.err
