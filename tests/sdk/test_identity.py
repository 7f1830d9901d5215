"""Code identity: recorded with every run, for messages and audits; never a reason to refuse."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.cli.run_views import code_text
from orchestrator.core import events as e
from orchestrator.core.values import CodeIdentity
from orchestrator.sdk.identity import DISTRIBUTION, identity_of, release, wheel_of
from tests.sdk.driver import Driver, replay

RECORD = "shop_{0}/__init__.py,,\nshop_{0}-1.dist-info/RECORD,,\nshop_{0}-1.dist-info/METADATA,,\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def installed(site: Path, name: str, origin: object = None, listed: bool = True) -> str:
    """A distribution as an installer leaves it; the module's name."""
    module, info = f"shop_{name}", site / f"shop_{name}-1.dist-info"
    (site / module).mkdir()
    (site / module / "__init__.py").write_text("async def order(): ...\n", encoding="utf-8")
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: shop-{name}\nVersion: 1\n", encoding="utf-8")
    (info / "top_level.txt").write_text(f"{module}\n", encoding="utf-8")
    record = RECORD.format(name) if listed else RECORD.format(name).partition("\n")[2]
    (info / "RECORD").write_text(record, encoding="utf-8")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin), encoding="utf-8")
    importlib.invalidate_caches()
    importlib.import_module(module)
    return module


def test_a_run_records_source_release_and_python() -> None:
    app = Orchestrator("identity")

    @app.workflow
    async def order() -> None:
        return None

    found = order.code.identity
    assert found.source_sha256 == hashlib.sha256(inspect.getsource(order.code.fn).encode()).hexdigest()
    assert found.engine == release() == metadata.version(DISTRIBUTION)
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.image == "", "a checkout is no image and no wheel"


def test_the_image_is_what_the_deployment_says() -> None:
    app = Orchestrator("identity")
    app.registry.image = "sha256:ab12"

    @app.workflow
    async def order() -> None:
        return None

    assert order.code.identity.image == "sha256:ab12"


def test_without_an_image_it_is_the_wheel_or_its_record(site: Path) -> None:
    plain = installed(site, "plain")
    record = hashlib.sha256(RECORD.format("plain").encode()).hexdigest()
    assert wheel_of(plain) == f"record:sha256:{record}"
    archive = {"url": "file:///w.whl", "archive_info": {"hashes": {"sha256": "ab" * 32}}}
    assert wheel_of(installed(site, "wheel", archive)) == f"wheel:sha256:{'ab' * 32}"
    older = {"url": "file:///w.whl", "archive_info": {"hash": f"sha256={'cd' * 32}"}}
    assert wheel_of(installed(site, "older", older)) == f"wheel:sha256:{'cd' * 32}"
    assert identity_of(sys.modules[plain].order, "").image == f"record:sha256:{record}"


def test_an_editable_install_has_no_digest(site: Path) -> None:
    """Its RECORD lists a pointer to the checkout, not the files that run."""
    assert wheel_of(installed(site, "editable", {"url": "file:///x", "dir_info": {"editable": True}}, False)) == ""


def test_a_module_that_nobody_installed_has_none(tmp_path: Path) -> None:
    assert wheel_of("no_such_module") == ""
    archive = tmp_path / "loose.zip"
    with zipfile.ZipFile(archive, "w") as whole:
        whole.writestr("loose_module.py", "x = 1\n")
    sys.path.insert(0, str(archive))
    try:
        importlib.import_module("loose_module")
        assert wheel_of("loose_module") == ""
    finally:
        sys.path.remove(str(archive))


def test_other_code_of_the_same_behaviour_replays() -> None:
    """Recorded under another source, image, release and Python: nothing compares them."""
    app = Orchestrator("identity")

    @app.step
    async def pay() -> int:
        return 3

    @app.workflow
    async def order() -> int:
        return await pay()

    driver = Driver(order).go()
    first, *rest = driver.history
    assert isinstance(first.body, e.RunStarted)
    other = CodeIdentity("00" * 32, "sha256:another", "99.0", "2.7.18")
    replay([first._replace(body=first.body._replace(code=other)), *rest], order.code)


def test_people_see_it_with_its_digests_cut() -> None:
    code = CodeIdentity("ab" * 32, f"record:sha256:{'cd' * 32}", "0.1.0", "3.11.4")
    assert code_text(code._asdict()) == (
        "source abababababab, image record:sha256:cdcdcdcdcdcd, engine 0.1.0, python 3.11.4"
    )
    assert code_text({}) == ""
