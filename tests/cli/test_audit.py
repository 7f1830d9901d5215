"""`orchestrator audit` over a real broker: signed heads, and a log whose tail is really gone."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from benchmarks.audit_log import PartitionLog, write
from orchestrator import Orchestrator
from orchestrator.cli.main import main
from orchestrator.codec.signing import Signer, public_path, signers_path
from orchestrator.devkafka import DevKafka
from orchestrator.engine.options import AnchorOptions, EngineOptions
from orchestrator.engine.partition import State
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics, topic_ids
from tests.cli.conftest import Ran
from tests.engine.rig import KafkaSite, Rig
from tests.oracle.raw import RawRecord

Run = Callable[..., Ran]
WAIT_S = 30


class Application:
    """One of its own for every test: anchors of another key are findings."""

    def __init__(self) -> None:
        app = self.app = Orchestrator(f"anchored-{uuid.uuid4().hex[:8]}")
        self.name = app.name

        @app.step
        async def add(x: int) -> int:
            return x + 1

        @app.workflow
        async def adds(x: int) -> int:
            for _ in range(3):
                x = await add(x)
            return x

        self.adds = adds


@pytest.fixture
def anchored() -> Application:
    return Application()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """A command line in this process; an engine's watchdog beside it needs the real standard error."""

    def one(*arguments: str) -> Ran:
        capfd.readouterr()
        code = main(list(arguments))
        return Ran(code, *capfd.readouterr())

    return one


@pytest.fixture
def rig(anchored: Application, kafka: DevKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rig]:
    """The application on a real broker, one partition, and the command line's environment."""
    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", anchored.name)
    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(tmp_path / "state"))
    made = Rig(anchored.app, KafkaSite(anchored.name, kafka.bootstrap, 1))
    yield made
    made.close()


def test_keygen_prints_paths_and_no_key(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "engine.pem"
    done = run("audit", "keygen", str(place))
    assert done.code == 0
    assert Signer.load(place).key_id in done.out
    secret = place.read_text().splitlines()[1]
    assert signers_path(place).read_text().startswith('exporter namespaces="orchestrator-audit" ssh-ed25519 ')
    assert secret not in done.out + done.err
    again = run("audit", "keygen", str(place))
    assert again.code == 2
    assert "no key file is ever replaced" in again.err


def test_an_engine_does_not_start_with_a_key_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    from orchestrator.config import Settings
    from orchestrator.engine.process import run_engine
    from orchestrator.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="orchestrator audit keygen"):
        run_engine(
            Settings(anchor_key=tmp_path / "none.pem"), Application().app, lambda report, freed: pytest.fail("started")
        )


@pytest.mark.contract("audit-verify")
@pytest.mark.broker
def test_a_tail_that_is_really_gone(rig: Rig, anchored: Application, run: Run, tmp_path: Path, kafka: DevKafka) -> None:
    """The topic is deleted and made again with a prefix of its records: its chains verify, its witnesses do not."""
    key = tmp_path / "engine.pem"
    assert run("audit", "keygen", str(key)).code == 0
    verify = ("audit", "verify", "--anchor-key", str(public_path(key)))
    engine = rig.engine(EngineOptions(anchors=AnchorOptions(Signer.load(key), tmp_path / "kept", every_s=0.2)))
    rig.start("w", anchored.adds, 0)
    assert rig.result("w") == b"3"
    engine.stop(5.0)

    whole = run(*verify)
    assert whole.code == 0, whole.out
    assert re.search(r"complete up to head \d+/\d+, signed at 20", whole.out)
    assert "complete up to every partition's signed head" in whole.out
    files_alone = run(*verify, "--anchor-dir", str(tmp_path / "kept"), "-o", "json")
    assert files_alone.json["ok"] is True
    without = run("audit", "verify")
    assert without.code == 0
    assert "prefix only, no anchor" in without.out
    assert "name the engines' public keys" in without.out

    records = rig.records("events")[0]
    footers = [at for at, record in enumerate(records) if record.key == b"\x00footer"]
    replace_events(anchored.name, kafka.bootstrap, records[: footers[-3] + 1])
    cut = run(*verify)
    assert cut.code == 1
    assert "it was deleted and made again" in cut.out
    assert re.search(r"the anchor at \S+anchors/0 offset \d+ saw footer \d+/\d+, the log ends at", cut.out)
    assert "group offset saw footer" in cut.out
    assert "NOT whole" in cut.out

    late = rig.engine(stores={})
    deadline = time.monotonic() + WAIT_S
    while 0 not in late.partitions or late.partitions[0].state is not State.PARKED:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "the log was cut" in late.partitions[0].problem
    late.stop(1.0)
    accepted = run("partition", "repair", "0", "--yes", "--reason", "a restored backup")
    assert "accepted and recorded" in accepted.out, accepted.err
    rig.engine(stores={})
    assert rig.result("w") == b"3"


@pytest.mark.broker
def test_progress_and_processes_of_their_own(
    anchored: Application, kafka: DevKafka, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four partitions by two processes give what one gives; programs that read lines are told how far it is."""
    name, events = anchored.name, 2_000
    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", name)
    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", kafka.bootstrap)
    config = LogConfig(name, kafka.bootstrap)
    init_topics(config, 4)
    ids = topic_ids(config)
    for number in range(4):
        log = PartitionLog(number, ids.cluster_id, ids.commands, ids.events)
        write(kafka.bootstrap, config.topic("events"), log, events, 4)
    monkeypatch.setattr("orchestrator.cli.audit_progress.EVERY_S", 0.0)
    monkeypatch.setattr("orchestrator.projections.audit.PROGRESS_EVERY", 500)
    for level in ("chain", "full"):
        alone = run("audit", "verify", "--level", level, "--jobs", "1", "-o", "jsonl")
        assert alone.code == 0, alone.out + alone.err
        told = [json.loads(line) for line in alone.out.splitlines()]
        assert {one["kind"] for one in told[:-1]} == {"progress"}
        assert told[-1]["kind"] == "audit"
        assert max(one["records"] for one in told[:-1]) <= told[0]["offsets"]
        both = run("audit", "verify", "--level", level, "--jobs", "2", "-o", "json")
        assert both.code == 0, both.out + both.err
        assert both.json == told[-1]
        assert [part["partition"] for part in both.json["partitions"]] == [0, 1, 2, 3]
        assert sum(part["events"] for part in both.json["partitions"]) == 4 * (events // 22) * 22
    some = ("audit", "verify", "--jobs", "2", "--partition", "0", "--partition", "3", "--from", "10")
    later = run(*some)
    assert later.code == 0, later.err
    missing = run(*some, "--state")
    assert missing.code == 2
    assert "no state directory of these partitions" in missing.err


@pytest.mark.broker
def test_an_anchors_topic_that_is_gone_stops_nobody(
    rig: Rig, anchored: Application, run: Run, tmp_path: Path, kafka: DevKafka
) -> None:
    key, topic = tmp_path / "engine.pem", f"{anchored.name}.anchors"
    assert run("audit", "keygen", str(key)).code == 0
    engine = rig.engine(EngineOptions(anchors=AnchorOptions(Signer.load(key), every_s=0.2)))
    rig.start("before", anchored.adds, 0)
    assert rig.result("before") == b"3"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([topic])[topic].result(WAIT_S)
    deadline = time.monotonic() + WAIT_S
    number = 0
    while topic not in engine.health().anchors:
        assert time.monotonic() < deadline, engine.health()
        number += 1
        rig.start(f"w{number}", anchored.adds, number)
        assert rig.result(f"w{number}") == str(number + 3).encode()
    assert engine.health().ready
    missing = run("audit", "verify", "--anchor-key", str(public_path(key)))
    assert missing.code == 2
    assert f"{topic} does not exist" in missing.err
    init_topics(LogConfig(anchored.name, kafka.bootstrap), 1)
    while engine.health().anchors != "ok":
        assert time.monotonic() < deadline, engine.health()
        number += 1
        rig.start(f"w{number}", anchored.adds, number)
        assert rig.result(f"w{number}") == str(number + 3).encode()


def replace_events(app: str, bootstrap: str, records: list[RawRecord]) -> None:
    """Delete the events topic, make it again, and put `records` on it."""
    topic = f"{app}.events"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while topic in admin.list_topics(timeout=WAIT_S).topics:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    init_topics(LogConfig(app, bootstrap), 1)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for record in records:
        producer.produce(topic, record.value, record.key, 0)
    assert producer.flush(WAIT_S) == 0
