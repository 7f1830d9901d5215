"""`orchestrator audit replay` over a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.cli.main import main
from orchestrator.codec.records import Codec
from orchestrator.devkafka import DevKafka
from orchestrator.store.partition_store import PartitionStore
from orchestrator.store.rows import state_hash
from tests.architecture.source import ROOT
from tests.cli import audited
from tests.cli.conftest import Ran
from tests.engine.rig import KafkaSite, Rig

Run = Callable[..., Ran]
pytestmark = pytest.mark.broker
CODE = "tests.cli.audited:app"
CHANGED = "tests.cli.audited:changed"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """A command line in this process; an engine's watchdog beside it needs the real standard error."""

    def one(*arguments: str) -> Ran:
        capfd.readouterr()
        code = main(list(arguments))
        return Ran(code, *capfd.readouterr())

    return one


@pytest.fixture
def rig(kafka: DevKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rig]:
    """The application on a real broker, two partitions, whose engines keep state where the command line looks."""
    name = f"audited-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(audited.app, "name", name)
    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", name)
    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(tmp_path / "state"))
    made = Rig(audited.app, KafkaSite(name, kafka.bootstrap, 2))
    yield made
    made.close()


def finished(rig: Rig) -> None:
    """Two runs, and engines that have ended."""
    engine = rig.engine()
    for workflow, x in (("one", 0), ("two", 5)):
        rig.start(workflow, audited.adds, x)
    assert rig.result("one") == b"3"
    assert rig.result("two") == b"8"
    engine.stop(5.0)


@pytest.mark.contract("audit-replay")
def test_a_run_and_an_application(rig: Rig, run: Run, tmp_path: Path) -> None:
    finished(rig)
    one = run("audit", "replay", "--workflow", "one", "-o", "json")
    assert one.code == 0, one.err
    assert one.json["status"] == "completed"
    assert one.json["result"] == 3
    assert one.json["steps_done"] == 3
    history = run("audit", "replay", "--workflow", "one", "--history", "-o", "jsonl")
    assert history.out.count("StepScheduled") == 3
    everything = run("audit", "replay", "--all", "--to", str(tmp_path / "kept"), "-o", "json")
    assert {found["workflow_id"] for found in everything.json["runs"]} == {"one", "two"}
    again = run("audit", "replay", "--all", "-o", "json")
    assert [p["state_hash"] for p in again.json["partitions"]] == [
        p["state_hash"] for p in everything.json["partitions"]
    ]
    for number in (0, 1):
        PartitionStore(tmp_path / "kept" / audited.app.name / str(number), Codec()).close()
    table = run("audit", "replay", "--all")
    assert "completed" in table.out
    refused = run("audit", "replay", "--all", "--to", str(tmp_path / "kept"))
    assert refused.code == 2
    assert "exists" in refused.err
    nobody = run("audit", "replay", "--workflow", "nobody")
    assert nobody.code == 3
    assert "not in the state of partition" in nobody.err


@pytest.mark.contract("audit-replay")
def test_the_state_here_is_compared(rig: Rig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(rig)
    assert run("audit", "replay", "--all", "--to", str(tmp_path / "state")).code == 0
    same = run("audit", "replay", "--all", "--compare", "-o", "json")
    assert same.code == 0, same.out
    assert {one["state"] for one in same.json["partitions"]} == {"equal"}
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(tmp_path / "swapped"))
    (tmp_path / "swapped").mkdir()
    (tmp_path / "state" / audited.app.name).rename(tmp_path / "swapped" / audited.app.name)
    place = tmp_path / "swapped" / audited.app.name
    (place / "0").rename(place / "x")
    (place / "1").rename(place / "0")
    (place / "x").rename(place / "1")
    differs = run("audit", "replay", "--all", "--compare", "-o", "json")
    assert differs.code == 1
    assert {one["state"] for one in differs.json["partitions"]} == {"different"}


@pytest.mark.contract("audit-replay")
def test_another_machine_comes_to_the_engine_s_own_state(rig: Rig, run: Run, tmp_path: Path, kafka: DevKafka) -> None:
    """A process with another hash seed, time zone and locale, an empty directory and no state: the hash is that of the
    live state of the engine that wrote the log.
    """
    finished(rig)
    live = {number: state_hash(store).hex() for number, store in rig.stores.items()}
    environment = {
        "PYTHONHASHSEED": "12345", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONPATH": str(ROOT),
        "ORCHESTRATOR_APP_NAME": audited.app.name, "ORCHESTRATOR_BOOTSTRAP": kafka.bootstrap,
    }  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [
        sys.executable,
        "-m",
        "orchestrator.cli.main",
        "audit",
        "replay",
        "--all",
        "--to",
        "rebuilt",
        "-o",
        "json",
    ]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, timeout=120, check=True)
    there = json.loads(done.stdout)["partitions"]
    assert {one["partition"]: one["state_hash"] for one in there} == live
    assert [one["state_hash"] for one in run("audit", "replay", "--all", "-o", "json").json["partitions"]] == [
        live[number] for number in sorted(live)
    ]
    assert (elsewhere / "rebuilt" / audited.app.name / "0").is_dir()


@pytest.mark.contract("audit-replay")
def test_a_moment_in_time(rig: Rig, run: Run) -> None:
    finished(rig)
    began = run("audit", "replay", "--workflow", "one", "-o", "json").json
    at = datetime.fromtimestamp(began["started_at_ms"] / 1000, UTC).isoformat()
    early = run("audit", "replay", "--workflow", "one", "--until", at, "-o", "json").json
    assert early["status"] == "running"
    assert early["started_at_ms"] == began["started_at_ms"]
    assert early["as_of_offset"] < began["as_of_offset"]
    by_offset = run("audit", "replay", "--workflow", "one", "--until", str(early["as_of_offset"]), "-o", "json").json
    assert by_offset == early
    before = run("audit", "replay", "--all", "--until", "2020-01-01T00:00:00Z", "-o", "json")
    assert before.json["runs"] == []
    wrong = run("audit", "replay", "--all", "--until", "yesterday")
    assert wrong.code == 2
    assert "neither an offset nor a time" in wrong.err


@pytest.mark.contract("audit-code")
def test_code_against_the_topics(rig: Rig, run: Run) -> None:
    finished(rig)
    good = run("audit", "replay", "--all", "--code", CODE, "-o", "json")
    assert good.code == 0, good.out
    assert [one["outcome"] for one in good.json] == ["repeated", "repeated"]
    bad = run("audit", "replay", "--workflow", "two", "--code", CHANGED, "-o", "json")
    assert bad.code == 1
    (row,) = bad.json
    assert row["outcome"] == "Divergence"
    assert "workflow two, event" in row["what"]
