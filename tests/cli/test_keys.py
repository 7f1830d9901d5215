"""`orchestrator keys`, and what the settings of keys do to engines, workers and command lines."""

from __future__ import annotations

import json
import stat
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import Orchestrator
from orchestrator.client.rejections import rejection
from orchestrator.codec.signatures import CommandSigner
from orchestrator.codec.signing import Signer, generate
from orchestrator.config import Settings
from orchestrator.core.signatures import SIGNATURE_HEADER, command_bytes, parse_signature
from orchestrator.engine.keyring import turned_away
from orchestrator.engine.process import run_engine
from orchestrator.errors import ConfigurationError, NotVerified
from tests.architecture.source import ROOT
from tests.cli.conftest import Ran
from tests.client.fake_engine import FakeEngine
from tests.client.test_produce_command import PAGE
from tests.worker.processes import Process, ended

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

Run = Callable[..., Ran]

CODE = f"{ROOT / 'tests' / 'log' / 'secured_app.py'}:app"
SNIPPET = ROOT / "docs" / "snippets" / "sign_command.py"


def test_a_key_is_made_for_its_owner_alone_and_never_shown(run: Run, tmp_path: Path) -> None:
    ran = run("keys", "create", str(tmp_path / "web.pem"), "-o", "json")
    assert ran.code == 0, ran.err
    private = (tmp_path / "web.pem").read_text(encoding="ascii")
    assert stat.S_IMODE((tmp_path / "web.pem").stat().st_mode) == 0o600
    secret = private.splitlines()[1]
    assert secret not in ran.out + ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["web.pem", "web.pem.pub"]
    assert ran.json["for_key_ring"] == str(tmp_path / "web.pem.pub")
    again = run("keys", "create", str(tmp_path / "web.pem"))
    assert (again.code, "no key file is ever replaced" in again.err) == (2, True)
    assert (tmp_path / "web.pem").read_text(encoding="ascii") == private
    signer = CommandSigner("shop", Signer.load(tmp_path / "web.pem"))
    assert secret not in repr(vars(signer)) + repr(Settings(signing_key=tmp_path / "web.pem"))


def test_a_ring_is_listed_by_id(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {str(tmp_path / f"{name}.pem.pub"): generate(tmp_path / f"{name}.pem", False) for name in ("new", "old")}
    listed = run("keys", "list", str(tmp_path), "-o", "json")
    assert {row["file"]: row["key_id"] for row in listed.json} == made
    assert (run("keys", "list").code, "ORCHESTRATOR_KEY_RING" in run("keys", "list").err) == (2, True)
    monkeypatch.setenv("ORCHESTRATOR_KEY_RING", str(tmp_path))
    assert run("keys", "list", "-o", "json").json == listed.json


def test_a_command_line_signs_if_a_key_is_set(
    engine: FakeEngine, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("workflow", "start", "order", "--id", "one").code == 0
    key_id = generate(tmp_path / "web.pem", signers=False)
    monkeypatch.setenv("ORCHESTRATOR_SIGNING_KEY", str(tmp_path / "web.pem"))
    assert run("workflow", "start", "order", "--id", "two").code == 0
    first, second = engine.headers
    assert first == ()
    ((name, text),) = second
    signed = parse_signature(text.decode())
    assert signed is not None
    assert (name, signed.key_id) == (SIGNATURE_HEADER, key_id)
    monkeypatch.setenv("ORCHESTRATOR_SIGNING_KEY", str(tmp_path / "gone.pem"))
    ran = run("workflow", "start", "order", "--id", "three")
    assert (ran.code, "make one with `orchestrator keys create`" in ran.err) == (2, True)


def test_the_doctor_looks_at_keys(
    engine: FakeEngine, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id = generate(tmp_path / "web.pem", signers=False)
    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setattr("orchestrator.log.topics.ATTEMPTS_S", (0.05,))
    monkeypatch.setenv("ORCHESTRATOR_SIGNING_KEY", str(tmp_path / "web.pem"))
    monkeypatch.setenv("ORCHESTRATOR_KEY_RING", str(tmp_path))
    found = {row["what"]: row["says"] for row in run("doctor", "-o", "json").json}
    assert (found["signing key"], found["key ring"]) == (key_id, f"{key_id}; signatures are optional")
    (tmp_path / "web.pem").chmod(0o644)
    (bad,) = [row for row in run("doctor", "-o", "json").json if row["what"] == "keys"]
    assert (bad["verdict"], "chmod 600" in bad["says"]) == ("bad", True)


def test_an_engine_that_could_not_do_its_part_does_not_start(tmp_path: Path) -> None:
    app = Orchestrator("shop")
    for name in ("ours", "other"):
        (tmp_path / name).mkdir()
        generate(tmp_path / name / "key.pem", signers=False)
    ring = {"key_ring": tmp_path / "ours", "signatures": "required"}
    for settings, says in (
        (Settings(**ring), "it has none"),
        (Settings(**ring, signing_key=tmp_path / "other" / "key.pem"), "is not in"),
        (Settings(key_ring=tmp_path), "holds no public key"),
        (Settings(key_ring=tmp_path / "none.pub"), "cannot be read"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            run_engine(settings, app, lambda report, freed: pytest.fail("an executor was made"))
    with pytest.raises(ConfigurationError, match="needs ORCHESTRATOR_KEY_RING"):
        Settings.from_env({"ORCHESTRATOR_SIGNATURES": "required"})


@pytest.mark.parametrize("setting", ["signing_key", "key_ring"])
def test_without_the_library_keys_name_the_extra(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path / "key.pem", signers=False)
    place = tmp_path / ("key.pem" if setting == "signing_key" else "key.pem.pub")
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'durable-orchestrator\[audit\]'"):
        run_engine(Settings(**{setting: place}), Orchestrator("shop"), lambda report, freed: pytest.fail("made"))


def test_the_documented_signature_is_the_engines(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    shown = PAGE.read_text(encoding="utf-8").split("```python\n")[3].split("```")[0]
    assert shown.strip() == SNIPPET.read_text(encoding="utf-8").strip()
    assert "orchestrator" not in [line.split()[1].partition(".")[0] for line in shown.splitlines() if "import " in line]
    made: dict[str, Callable[[str, bytes, Path], dict[str, bytes]]] = {}
    exec(compile(shown, str(SNIPPET), "exec"), made)  # type: ignore[arg-type]
    key_id = generate(tmp_path / "web.pem", signers=False)
    ((name, text),) = made["signed"]("shop-é", b"value", tmp_path / "web.pem").items()
    found = parse_signature(text.decode())
    assert found is not None
    assert (name, found.key_id) == (SIGNATURE_HEADER, key_id)
    key = load_pem_public_key((tmp_path / "web.pem.pub").read_bytes())
    key.verify(found.signature, command_bytes("shop-é", found.signed_at_ms, b"value"))  # type: ignore[union-attr,call-arg]


@pytest.mark.broker
def test_everything_works_where_only_signed_commands_are_taken(
    kafka: DevKafka, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = tmp_path / "ring"
    ring.mkdir()
    for name in ("person", "service"):
        generate(tmp_path / f"{name}.pem", signers=False)
        (tmp_path / f"{name}.pem.pub").rename(ring / f"{name}.pub")
    shared = {"ORCHESTRATOR_APP_NAME": f"keys-{uuid.uuid4().hex[:8]}", "ORCHESTRATOR_BOOTSTRAP": kafka.bootstrap}
    for name, value in shared.items():
        monkeypatch.setenv(name, value)
    assert run("topics", "init", "--partitions", "2", "--queue", "far").code == 0
    theirs = {
        "ORCHESTRATOR_APP": CODE,
        "ORCHESTRATOR_STATE_DIR": str(tmp_path / "state"),
        "ORCHESTRATOR_SIGNING_KEY": str(tmp_path / "service.pem"),
        "ORCHESTRATOR_ISOLATION": "thread",
        **shared,
    }
    strict = {"ORCHESTRATOR_KEY_RING": str(ring), "ORCHESTRATOR_SIGNATURES": "required"}
    engine = Process("engine", tmp_path / "engine.log", {**theirs, **strict})
    worker = Process("worker", tmp_path / "worker.log", {**theirs, "ORCHESTRATOR_QUEUES": "far"})
    try:
        start = ("workflow", "execute", "both", "word=pen", "--id", "one", "--timeout", "60", "-o", "json")
        refused = run(*start)
        assert (refused.code, "takes only commands that a key of its ring signed" in refused.err) == (5, True)
        monkeypatch.setenv("ORCHESTRATOR_SIGNING_KEY", str(tmp_path / "person.pem"))
        # One for each time that it was sent before an engine was there to answer.
        letter = run("dead-letters", "list", "-o", "json").json[0]
        found = run("dead-letters", "show", letter["number"], "-o", "json").json
        assert (found["command"], found["workflow_id"]) == ("StartWorkflow", "one")
        assert found["said_by"].startswith("person ")
        assert found["said_by"].endswith("via cli (claimed)")
        assert run("dead-letters", "resubmit", letter["number"], "--yes").code == 0
        waited = run("workflow", "wait", "one", "-o", "json")
        assert (waited.code, "far near pen" in waited.out) == (0, True), waited.err
        shown = run("workflow", "show", "one", "-o", "json").json
        assert (shown["started_by"]["kind"], shown["started_by"]["authn"]) == ("person", "verified")
        assert "(verified)" in run("workflow", "show", "one").out
        assert "(verified)" in run("workflow", "history", "one").out
        events = [json.loads(line) for line in run("workflow", "history", "one", "-o", "jsonl").out.splitlines()]
        assert events[0]["body"]["actor"]["authn"] == "verified"
    finally:
        codes = ended(worker, engine)
    assert codes == [0, 0], engine.said


def test_a_refusal_is_an_error_of_its_own() -> None:
    error = rejection(turned_away("c-1", "w", "it is not signed"))
    assert isinstance(error, NotVerified)
    assert (error.code, error.command_id, error.workflow_id) == ("not_verified", "c-1", "w")
