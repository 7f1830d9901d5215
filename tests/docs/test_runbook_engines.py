"""The commands of docs/runbook.md, each as it stands there: transactions, backlogs, disks, engines."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import socket
from collections.abc import Callable

import pytest

from orchestrator.cli import exits
from orchestrator.codec.records import Codec
from orchestrator.log.config import LogConfig
from orchestrator.log.reader import group_notes
from orchestrator.store.partition_store import PartitionStore
from tests.docs import hung
from tests.docs.conftest import PARTITIONS, TROUBLED, Place, troubled, until
from tests.docs.runbook import Entry
from tests.docs.test_runbook import status

Page = Callable[[str], Entry]
pytestmark = pytest.mark.broker
FULL = "the disk is full"


def start(run: str) -> list[str]:
    """The command line that starts a run which ends by itself."""
    return ["orchestrator", "workflow", "start", "waiting", "--id", run, "--signal", "go=true"]


def done(place: Place, word: str) -> str:
    """A run of the partition that the page is about, started and finished."""
    run = troubled(word)
    place.line([*start(run), "--timeout", "60"], 0)
    until(lambda: status(place, run) == "completed")
    return run


def test_a_hung_transaction(page: Page, place: Place) -> None:
    """Of a foreign process that was killed, then one that the brokers forgot: nothing of the partition is seen."""
    entry = page("A hung transaction")
    topic, run = f"{place.app}.events", troubled("hidden")
    place.run("topics", "init")
    with place.engine():
        done(place, "before")
        hung.killed_writer(place.kafka.bootstrap, topic, TROUBLED, f"{place.app}.backup")
        assert f"{topic}/{TROUBLED}: a transaction open for 36" in entry("orchestrator doctor", code=1)
        assert topic not in entry("kafka-transactions.sh --bootstrap-server HOST:PORT find-hanging --topic shop.events")
        open_ = entry(
            "kafka-transactions.sh --bootstrap-server HOST:PORT describe-producers --topic shop.events --partition 3"
        )
        (producer,) = [row.split()[0] for row in open_.splitlines()[1:] if row.split() and row.split()[-1].isdigit()]
        listed = entry("kafka-transactions.sh --bootstrap-server HOST:PORT list")
        (name,) = [row.split()[0] for row in listed.splitlines() if row.split()[2:4] == [producer, "Ongoing"]]
        assert name == f"{place.app}.backup"
        entry(
            "kafka-transactions.sh --bootstrap-server HOST:PORT forceTerminateTransaction --transactionalId NAME",
            NAME=name,
        )

        hung.forgotten(place.kafka.bootstrap, topic, TROUBLED, f"{place.app}.mirror")
        found = entry("kafka-transactions.sh --bootstrap-server HOST:PORT find-hanging --topic shop.events")
        (offset,) = [row.split()[5] for row in found.splitlines() if row.startswith(topic)]
        place.line([*start(run), "--timeout", "1"], exits.TIMEOUT)
        assert "a transaction open for" in entry("orchestrator doctor", code=1)
        entry(
            "kafka-transactions.sh --bootstrap-server HOST:PORT abort --topic shop.events --partition 3"
            " --start-offset OFFSET",
            OFFSET=offset,
        )
        until(lambda: status(place, run) == "completed")
        assert "none has been open" in entry("orchestrator doctor")
    place.run("audit", "verify", "--partition", str(TROUBLED))


def test_a_lost_volume_a_backlog_and_a_double_owner(page: Page, place: Place) -> None:
    """Two processes with one static map, the first of them frozen: it wakes up, reads the newer claims, and stops."""
    volume, backlog, double = page("A lost volume"), page("A backlog"), page("A double owner")

    def positions() -> tuple[int, int]:
        """Where the group stands in the partition, and the partition's end."""
        said = backlog("kafka-consumer-groups.sh --bootstrap-server HOST:PORT --describe --group shop.engine")
        (row,) = [row.split() for row in said.splitlines() if row.split()[1:3] == [f"{place.app}.commands", "3"]]
        return int(row[3]), int(row[4])

    place.run("topics", "init")
    with place.engine() as engine:
        before = done(place, "before")
        until(lambda: TROUBLED in group_notes(LogConfig(place.app, place.kafka.bootstrap), PARTITIONS))
        engine.kill()
    shutil.rmtree(place.state)
    late = [troubled(f"late-{number}") for number in range(3)]
    for run in late:
        place.line([*start(run), "--timeout", "0.1"], exits.TIMEOUT)
    at, end = positions()
    assert end - at >= len(late)
    assert "nobody answers for partition 0, 1, 2, 3" in volume("orchestrator doctor", code=1)
    with place.engine() as first:
        assert "every partition is answered for" in volume("orchestrator doctor")
        for run in late:
            until(lambda run=run: status(place, run) == "completed")  # type: ignore[misc]
        until(lambda: positions()[0] >= end)
        assert status(place, before) == "completed"

        first.process.send_signal(signal.SIGSTOP)
        with place.engine(ORCHESTRATOR_STATE_DIR=str(place.directory / "other")):
            done(place, "meanwhile")
            first.process.send_signal(signal.SIGCONT)
            until(lambda: first.said().count("this engine stops working on it") >= PARTITIONS)
            assert "claimed by" in first.said()
            done(place, "after")
            assert "every partition is answered for" in double("orchestrator doctor")
            double("orchestrator audit verify --partition 3")


def test_a_full_disk_then_damaged_directories(page: Page, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real engine process, whose files may not grow for a while.

    Then of one partition a file is emptied, of one the directory is another's, of one it is of a later format.
    """
    first, full, damaged = page("Runbook"), page("A full disk"), page("A damaged state directory")
    run = troubled("full")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        monkeypatch.setenv("ORCHESTRATOR_HEALTH_PORT", str(probe.getsockname()[1]))
    place.run("topics", "init")
    with place.engine() as engine:
        limits = resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        place.line([*start(run), "--timeout", "0.1"], exits.TIMEOUT)
        until(lambda: FULL in engine.said())
        assert "parked" in first("orchestrator engine status", code=1)
        said = full("orchestrator doctor", code=1)
        assert "free" in said
        assert "nobody answers for partition 3" in said
        resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, limits)
        until(lambda: status(place, run) == "completed")
        assert engine.end(signal.SIGTERM) == 0
    (place.state / "3" / "CURRENT").write_bytes(b"")
    shutil.rmtree(place.state / "2")
    shutil.copytree(place.state / "1", place.state / "2")
    store = PartitionStore(place.state / "0", Codec())
    identity = json.loads(store.hint("identity") or b"{}")
    store.set_hint("identity", json.dumps(identity | {"format": 9}).encode())
    store.close()
    with place.engine() as engine:
        for what in ("3 is damaged", f"holds {place.app}/1", "of format 9"):
            (row,) = [row for row in engine.said().splitlines() if what in row]
            assert "the state is folded anew from the log" in row
        assert status(place, run) == "completed"
        assert engine.end(signal.SIGTERM) == 0
    assert len(list(place.state.glob("*.aside-*"))) == 3
    assert "state" in damaged("orchestrator audit verify --partition 3 --state")
