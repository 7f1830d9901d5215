"""The commands of docs/runbook.md, each as it stands there, on logs that lost records, were written to, or moved."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.engine import partition as partition_module
from orchestrator.engine.clock import SystemClock
from orchestrator.engine.options import CheckpointOptions, EngineOptions
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from orchestrator.store.blobs import DirectoryBlobs
from orchestrator.store.checkpoint import Checkpoints
from orchestrator.store.partition_store import open_or_rebuild
from orchestrator.store.places import place_of
from tests.docs.conftest import PARTITIONS, TROUBLED, WAIT_S, Place, troubled, until
from tests.docs.runbook import Entry
from tests.engine.rig import KafkaSite, Rig
from tests.oracle.raw import RawRecord

Page = Callable[[str], Entry]
LARGE = 2_000_000
"""More than an event takes."""
pytestmark = pytest.mark.broker


class Site:
    """An application in this place, its engines in this process with their state on disk."""

    def __init__(self, place: Place) -> None:
        self.place = place
        app = Orchestrator(place.app)
        go = app.signal("go", int)

        @app.step(name="large")
        def large(size: int) -> str:
            return "x" * size

        @app.workflow(name="waits")
        async def waits(size: int = 0) -> int:
            text = await large(size) if size else ""
            return len(text) + await go.wait()

        self.waits: Any = waits
        self.rig = Rig(app, KafkaSite(place.app, place.kafka.bootstrap, PARTITIONS))
        self.checkpoints = Checkpoints(place_of(str(place.directory / "kept"), place.app))
        self.admin = AdminClient({"bootstrap.servers": place.kafka.bootstrap})

    def engine(self, **options: Any) -> Engine:
        """An engine, and the moment when it owns the partition that the page is about, or stands still there."""
        checkpoints = CheckpointOptions(self.checkpoints, self.place.state, every_events=1, look_s=0.02)
        engine = self.rig.engine(
            EngineOptions(checkpoints=checkpoints, blobs=DirectoryBlobs(self.place.directory / "state" / "blobs")),
            open_store=lambda number, codec: open_or_rebuild(self.place.state / str(number), codec),
            **options,
        )
        until(lambda: self.partition(engine) and self.partition(engine).state in (State.OWNED, State.PARKED))
        return engine

    @staticmethod
    def partition(engine: Engine) -> Any:
        """The one that the page is about, of an engine."""
        return engine.partitions.get(TROUBLED)

    def parked(self) -> str:
        """Start an engine, which cannot go on there; what it says, once it has stopped."""
        engine = self.engine()
        until(lambda: self.partition(engine).state is State.PARKED)
        said = str(self.partition(engine).problem)
        engine.stop(5.0)
        return said

    def delete_before(self, topic: str, offset: int) -> None:
        """The broker deletes what lies below an offset, as by retention."""
        place = TopicPartition(f"{self.place.app}.{topic}", TROUBLED, offset)
        self.admin.delete_records([place])[place].result(WAIT_S)

    def write(self, topic: str, value: bytes) -> None:
        """Somebody else writes to the partition."""
        producer = Producer({"bootstrap.servers": self.place.kafka.bootstrap})
        producer.produce(f"{self.place.app}.{topic}", value, b"x", TROUBLED)
        assert producer.flush(WAIT_S) == 0

    def replace_events(self, records: dict[int, list[RawRecord]]) -> None:
        """Delete the events topic and make it again, of these records at their offsets."""
        topic = f"{self.place.app}.events"
        self.admin.delete_topics([topic])[topic].result(WAIT_S)
        until(lambda: self._made(topic))
        for number, some in records.items():
            self._copy(topic, number, some)

    def _made(self, topic: str) -> bool:
        """Whether the topic could be created; its deletion takes a moment."""
        try:
            new = NewTopic(topic, PARTITIONS, 1, config={"message.timestamp.type": "LogAppendTime"})
            self.admin.create_topics([new], operation_timeout=WAIT_S)[topic].result(WAIT_S)
        except KafkaException:
            return False
        return True

    def _copy(self, topic: str, number: int, records: list[RawRecord]) -> None:
        """In transactions, whose markers stand where those of before stood."""
        producer = Producer(
            {"bootstrap.servers": self.place.kafka.bootstrap, "transactional.id": uuid.uuid4().hex, "linger.ms": 0}
        )
        producer.init_transactions(WAIT_S)
        following = 0
        for record in records:
            if record.offset != following:
                assert record.offset == following + 1
                producer.commit_transaction(WAIT_S)
            if record.offset != following or not following:
                producer.begin_transaction()
            producer.produce(topic, record.value, record.key, number)
            assert producer.flush(WAIT_S) == 0
            following = record.offset + 1
        if records:
            producer.commit_transaction(WAIT_S)


@pytest.fixture
def site(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("ORCHESTRATOR_CHECKPOINT_URL", str(place.directory / "kept"))
    monkeypatch.delenv("ORCHESTRATOR_APP")
    found = Site(place)
    yield found
    found.rig.close()


def test_a_foreign_record_then_commands_deleted_unread(page: Page, site: Site) -> None:
    first, parked, gap = page("Runbook"), page("A parked partition"), page("Records that do not follow")
    lost = page("Commands deleted unread")
    run = troubled("waits")
    engine = site.engine()
    site.rig.start(run, site.waits)
    assert "bad" not in first("orchestrator topics check")
    engine.stop(5.0)
    parked("orchestrator audit verify --partition 3")
    assert "no command is missing" in parked("orchestrator partition repair 3")

    site.write("events", b"by hand")
    assert "not Avro" in site.parked()
    parked("orchestrator audit verify --partition 3", code=1)
    assert "bad" not in parked("orchestrator topics check")
    assert "offset" in gap("orchestrator audit verify --partition 3", code=1)
    assert "--yes" in gap("orchestrator partition repair 3", code=1)
    accepted = gap('orchestrator partition repair 3 --yes --reason "a tool wrote to events, ticket 4711"')
    assert "accepted and recorded" in accepted
    assert "a tool wrote to events" in gap("orchestrator audit verify --partition 3")
    assert "no command is missing" in gap("orchestrator partition repair 3")

    site.write("commands", b"unread")
    sent = site.rig.send(run, c.SignalWorkflow("go", Payload(data=b"7")))
    until(lambda: site.rig.records("commands")[TROUBLED][-1].key == run.encode())
    site.delete_before("commands", site.rig.records("commands")[TROUBLED][-1].offset)
    assert "commands were deleted before they were read" in site.parked()
    assert "were deleted" in lost("orchestrator partition repair 3", code=1)
    assert "accepted" in lost('orchestrator partition repair 3 --yes --reason "down for three weeks"')
    site.engine()
    assert site.rig.result(run) == b"7"
    assert site.rig.answers(sent)[0].outcome == "accepted"


def test_a_cluster_that_moved_then_a_log_that_lost_its_end(page: Page, site: Site) -> None:
    moved, cut = page("A cluster that moved"), page("A log that lost its end")
    run = troubled("waits")
    engine = site.engine()
    site.rig.start(run, site.waits)
    engine.stop(5.0)
    site.replace_events(site.rig.records("events"))
    assert "topics adopt" in site.parked()
    assert "the same log" in moved("orchestrator topics adopt", code=1)
    adopted = moved('orchestrator topics adopt --yes --reason "moved to the new cluster"')
    assert adopted.count(" true ") == PARTITIONS
    assert "nothing to adopt" in moved("orchestrator topics adopt")
    moved("orchestrator audit verify --partition 3")
    engine = site.engine()
    site.rig.signal(run, "go", b"7")
    assert site.rig.result(run) == b"7"
    engine.stop(5.0)

    records = site.rig.records("events")
    footers = [at for at, record in enumerate(records[TROUBLED]) if record.key == b"\x00footer"]
    # The last batches are gone, the one with the run's end among them; so is this engine's state.
    records[TROUBLED] = records[TROUBLED][: footers[-3] + 1]
    site.replace_events(records)
    shutil.rmtree(site.place.state)
    assert "the log was cut" in site.parked()
    assert "group offset saw footer" in cut("orchestrator audit verify --partition 3", code=1)
    assert "--yes" in cut("orchestrator partition repair 3", code=1)
    accepted = cut('orchestrator partition repair 3 --yes --reason "unclean election on broker 2, ticket 4711"')
    assert "accepted and recorded" in accepted
    site.engine()
    # The command is read again, from the last footer that is left.
    assert site.rig.result(run) == b"7"
    assert "unclean election" in cut("orchestrator audit verify --partition 3")


def test_a_log_whose_start_was_deleted_and_a_torn_checkpoint(page: Page, site: Site) -> None:
    start, torn, parked = page("A log whose start was deleted"), page("A torn checkpoint"), page("A parked partition")
    run = troubled("waits")
    engine = site.engine()
    site.rig.start(run, site.waits)
    until(lambda: "3 " in start("orchestrator checkpoint list"))
    engine.stop(5.0)
    start("orchestrator checkpoint verify")
    kept_at = json.loads(parked("orchestrator checkpoint list -o json"))
    at = max(int(row["offset"]) for row in kept_at if row["partition"] == TROUBLED)
    site.delete_before("events", at)
    assert "bad" not in start("orchestrator topics check")

    shutil.rmtree(site.place.state)
    files = site.place.directory / "kept" / site.place.app / "3" / "files"
    kept = {path: path.read_bytes() for path in files.iterdir()}
    for path in kept:
        path.write_bytes(b"")
    assert "never starts empty" in site.parked()
    assert "3" in torn("orchestrator checkpoint verify", code=1)
    assert "3 " in torn("orchestrator checkpoint list")
    for path, data in kept.items():
        path.write_bytes(data)
    torn("orchestrator checkpoint verify")
    site.engine()
    site.rig.signal(run, "go", b"7")
    assert site.rig.result(run) == b"7"


def test_a_missing_blob(page: Page, site: Site) -> None:
    blob = page("A missing blob")
    run = troubled("large")
    engine = site.engine()
    site.rig.start(run, site.waits, LARGE)
    (done,) = site.rig.wait_for(e.StepCompleted, run)
    engine.stop(5.0)
    (lost,) = (site.place.directory / "state" / "blobs").rglob(done.result.blob.name)
    data = lost.read_bytes()
    lost.unlink()
    site.engine()
    site.rig.signal(run, "go", b"1")
    site.rig.parked(run)
    assert lost.name in blob("orchestrator workflow show ID", ID=run)
    assert lost.name in blob("orchestrator audit verify --partition 3", code=1)
    lost.write_bytes(data)
    blob("orchestrator workflow retry ID", ID=run)
    assert site.rig.result(run) == b"%d" % (LARGE + 1)
    blob("orchestrator audit verify --partition 3")


class WrongClock(SystemClock):
    """The machine's clock, an hour ahead until it is set right."""

    off_ms = 3_600_000

    def wall_ms(self) -> int:
        return super().wall_ms() + self.off_ms


def test_a_wrong_clock(page: Page, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "SKEW_RETRY_S", 0.2)
    wrong = page("A wrong clock")
    clock = WrongClock()
    engine = site.engine(clock=clock)
    until(lambda: "3600.0 s ahead of the brokers'" in site.partition(engine).problem)
    assert "nobody answers" in wrong("orchestrator doctor", code=1)
    clock.off_ms = 0
    until(lambda: {one.state for one in engine.partitions.values()} == {State.OWNED})
    assert "every partition is answered for" in wrong("orchestrator doctor")
