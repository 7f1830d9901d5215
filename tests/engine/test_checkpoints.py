"""A directory that is gone comes back from a checkpoint and the log behind it; the log alone decides whether it may."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from orchestrator import Orchestrator, failpoints
from orchestrator.core.rows import META, POSITION_KEY, PositionRow
from orchestrator.core.values import Actor
from orchestrator.devkafka import DevKafka
from orchestrator.engine.options import CheckpointOptions, EngineOptions
from orchestrator.engine.partition import State
from orchestrator.engine.repair import Acceptance, Repairer
from orchestrator.engine.run import Engine
from orchestrator.engine.visiting import ground_of
from orchestrator.errors import CheckpointsUnavailable
from orchestrator.log.partitioner import partition_of
from orchestrator.store.checkpoint import Checkpoints
from orchestrator.store.manifest import Manifest
from orchestrator.store.partition_store import PartitionStore
from orchestrator.store.places import DirectoryPlace
from orchestrator.store.rows import state_hash
from orchestrator.testing.memory_cluster import PartitionLog
from tests.engine.rig import KafkaSite, MemorySite, Rig

pytestmark = pytest.mark.slow

NUMBER = 0
PATIENCE_S = 20.0


def code(name: str) -> Orchestrator:
    """The application."""
    app = Orchestrator(name)

    @app.step(name="add")
    async def add(x: int) -> int:
        return x + 1

    @app.workflow(name="adds")
    async def adds(x: int) -> int:
        for _ in range(4):
            x = await add(x)
        return x

    app.adds = adds  # type: ignore[attr-defined]
    return app


class Site:
    """An application of one partition, with RocksDB in directories and checkpoints in another."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self.rig = rig
        self.directory = directory
        self.place = DirectoryPlace(directory / "kept")
        self.kept = Checkpoints(self.place, keep=3, spared_s=0.0)
        self._runs = 0

    def engine(self, state: str = "state", every_events: int = 1, every_s: float = 1_000.0) -> Engine:
        """An engine with its state in this directory."""
        scratch = self.directory / state
        scratch.mkdir(exist_ok=True)
        told = CheckpointOptions(self.kept, scratch, every_events, every_s, look_s=0.01)
        return self.rig.engine(
            EngineOptions(checkpoints=told, hang_s=5.0),
            open_store=lambda number, codec: PartitionStore(scratch / str(number), codec),
        )

    def work(self, count: int = 3) -> None:
        """Runs from their start to their end."""
        names = [f"w{self._runs + n}" for n in range(count)]
        self._runs += count
        for name in names:
            self.rig.start(name, self.rig.app.adds, 0)  # type: ignore[attr-defined]
        assert [self.rig.result(name) for name in names] == [b"4"] * count

    def checkpoint(self, beyond: int = -1) -> Manifest:
        """Wait for a checkpoint at a later offset than `beyond`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            manifest = next((one.manifest for one in self.kept.found(NUMBER) if one.manifest), None)
            if manifest is not None and manifest.head.offset > beyond:
                return manifest
            assert time.monotonic() < deadline, f"no checkpoint beyond {beyond}: {manifest}"
            time.sleep(0.01)

    def lose(self, state: str = "state") -> None:
        """The volume is gone."""
        shutil.rmtree(self.directory / state)

    def position(self, state: str = "state") -> PositionRow:
        """How far a stopped engine's state is."""
        store = PartitionStore(self.directory / state / str(NUMBER), self.rig.codec)
        try:
            row = store.get(META, POSITION_KEY)
            assert isinstance(row, PositionRow)
            return row
        finally:
            store.close()

    def folded_on(self, state: str) -> bytes:
        """The hash of a stopped engine's state, with what came since folded from the log."""
        log = self.rig.site.log(self.rig.app.name)
        store = PartitionStore(self.directory / state / str(NUMBER), self.rig.codec)
        try:
            ground = ground_of(log, store, self.rig.codec, NUMBER)
            ground.restore()
            ground.give_up()
            return state_hash(store)
        finally:
            store.close()
            log.close()


@pytest.fixture
def site(rig: Callable[..., Rig], tmp_path: Path) -> Iterator[Site]:
    yield Site(rig(code("kept"), 1), tmp_path)
    failpoints.install("")


def events_of(site: Site) -> PartitionLog:
    """The partition's log in memory."""
    return site.rig.cluster.partition("kept.events", NUMBER)


def trim(site: Site, offset: int) -> None:
    """What is older is deleted."""
    log = events_of(site)
    with site.rig.cluster.changed:
        del log.entries[: offset - log.start]
        log.start = offset


def until(engine: Engine, state: State) -> str:
    """Wait until the partition is in this state; its problem."""
    deadline = time.monotonic() + PATIENCE_S
    while NUMBER not in engine.partitions or engine.partitions[NUMBER].state is not state:
        assert time.monotonic() < deadline, engine.health()
        time.sleep(0.01)
    return engine.partitions[NUMBER].problem


def prove(site: Site, cut: Callable[[int], None], caplog: pytest.LogCaptureFixture) -> None:
    """A checkpoint and the log behind it give the state that the lost directory had (I3)."""
    caplog.set_level("INFO")
    engine = site.engine(every_events=30)
    site.work()
    head = site.checkpoint().head
    site.work()
    assert engine.health().checkpoints == "ok"
    engine.stop(2.0)
    (site.directory / "state").rename(site.directory / "live")
    assert site.position("live").next_offset > head.offset + 1, "there is a tail behind the checkpoint"
    newest = site.checkpoint().head.offset
    cut(newest)

    engine = site.engine()
    site.work()
    assert f"checkpoint at offset {newest} restored" in caplog.text
    site.checkpoint(beyond=newest)
    engine.stop(2.0)
    assert site.folded_on("state") == site.folded_on("live")
    assert not [path.name for path in (site.directory / "state").iterdir() if path.name != str(NUMBER)]


def test_a_checkpoint_and_the_tail_are_the_live_state(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    prove(site, lambda offset: trim(site, offset), caplog)


@pytest.mark.broker
def test_a_checkpoint_and_the_tail_are_the_live_state_on_a_broker(
    kafka: DevKafka, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"kept-{uuid.uuid4().hex[:8]}"
    one = Rig(code(name), KafkaSite(name, kafka.bootstrap, 1))

    def cut(offset: int) -> None:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        place = TopicPartition(f"{name}.events", NUMBER, offset)
        assert admin.delete_records([place])[place].result(30).low_watermark == offset

    try:
        prove(Site(one, tmp_path), cut, caplog)
    finally:
        one.close()


def test_time_alone_makes_one_due(site: Site) -> None:
    engine = site.engine(every_events=10**9, every_s=0.05)
    site.work(1)
    first = site.checkpoint().head
    site.work(1)
    site.checkpoint(beyond=first.offset)
    engine.stop(1.0)


def test_a_log_that_begins_behind_the_state_is_reached_by_a_checkpoint(site: Site) -> None:
    site.engine().stop(1.0)
    shutil.copytree(site.directory / "state", site.directory / "old")
    engine = site.engine()
    site.work()
    offset = site.checkpoint(beyond=events_of(site).end // 2).head.offset
    engine.stop(1.0)
    trim(site, site.checkpoint().head.offset)
    assert site.position("old").next_offset <= offset
    engine = site.engine("old")
    site.work()
    engine.stop(1.0)
    assert site.folded_on("old") == site.folded_on("state")


def test_without_one_an_engine_never_starts_empty(site: Site) -> None:
    engine = site.engine(every_events=10**9)
    site.work()
    engine.stop(1.0)
    trim(site, site.position().next_offset - 1)
    site.lose()
    problem = until(site.engine(), State.PARKED)
    assert f"an engine never starts empty. Its checkpoints: {site.place.where} has none" in problem


def spoiled(site: Site) -> None:
    """The newest checkpoint's own files are torn."""
    newest, older = (one.manifest for one in site.kept.found(NUMBER)[:2])
    assert newest is not None
    assert older is not None
    own = {entry.sha256: entry for entry in newest.files if entry not in older.files}
    for sha256 in own:
        path = site.place.directory / str(NUMBER) / "files" / sha256
        path.write_bytes(path.read_bytes()[:-1])


def test_a_torn_one_is_refused_and_the_one_before_it_taken(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    engine = site.engine(every_events=25)
    for _ in range(3):
        before = events_of(site).end
        site.work()
        site.checkpoint(beyond=before)
    engine.stop(1.0)
    shutil.copytree(site.directory / "state", site.directory / "live")
    older = site.kept.found(NUMBER)[1].manifest
    assert older is not None
    spoiled(site)
    trim(site, older.head.offset)
    site.lose()
    engine = site.engine(every_events=10**9)
    site.work()
    engine.stop(1.0)
    assert "not those of" in caplog.text
    assert site.folded_on("state") == site.folded_on("live")

    trim(site, older.head.offset + 1)
    site.lose()
    problem = until(site.engine(), State.PARKED)
    assert "never starts empty" in problem
    assert f"the checkpoint at offset {older.head.offset} ends before the log" in problem
    assert "not those of" in problem


def taken(site: Site) -> int:
    """A checkpoint was taken and the engine is gone; where it stands."""
    engine = site.engine()
    site.work()
    offset = site.checkpoint().head.offset
    engine.stop(1.0)
    site.lose()
    return max(offset, site.checkpoint().head.offset)


def test_a_checkpoint_witnesses_the_end_of_the_log(site: Site) -> None:
    offset = taken(site)
    assert isinstance(site.rig.site, MemorySite)
    site.rig.site.group.offsets.clear()
    del events_of(site).entries[offset:]
    engine = site.engine()
    problem = until(engine, State.PARKED)
    assert f"the log was cut: the checkpoint at offset {offset} was taken" in problem
    engine.stop(1.0)

    # A person accepts the log: the state is folded from it, and later checkpoints come before the one that was cut off.
    port = site.rig.site.log("kept")
    store = PartitionStore(site.directory / "state" / str(NUMBER), site.rig.codec)
    repairer = Repairer(port, store, site.rig.codec, NUMBER, lambda: pytest.fail("nothing to rebuild"))
    repairer.accept(Acceptance(Actor("person", "p"), "why"))
    store.close()
    port.close()
    engine = site.engine()
    until(engine, State.OWNED)
    site.work()
    deadline = time.monotonic() + PATIENCE_S
    while (newest := site.checkpoint().head).batch.claim_no == 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    engine.stop(1.0)
    site.lose()
    engine = site.engine()
    site.work()
    engine.stop(1.0)
    assert newest.batch.claim_no > 1


def test_a_checkpoint_of_another_footer_parks_the_partition(site: Site) -> None:
    offset = taken(site)
    log = events_of(site)
    entry = log.entries[offset]
    other = next(one for one in log.entries if one.wire.key == entry.wire.key)
    entry.wire = entry.wire._replace(value=other.wire.value)
    assert "not the footer that the state was folded from" in until(site.engine(), State.PARKED)


def test_a_checkpoint_of_a_topic_of_before_is_none_of_this_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    taken(site)
    assert isinstance(site.rig.site, MemorySite)
    site.rig.site.group.offsets.clear()
    for name in ("events", "commands"):
        site.rig.cluster.delete(f"kept.{name}")
        site.rig.cluster.create(f"kept.{name}", 1)
    engine = site.engine()
    site.work()
    engine.stop(1.0)
    assert "and the topic is" in caplog.text


def test_a_restore_that_was_cut_off_goes_on(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    trim(site, taken(site))
    opened: list[str] = []
    real, fails = site.place.open, True

    def opening(name: str) -> Any:
        if fails and len([one for one in opened if "/files/" in one]) == 3:
            raise CheckpointsUnavailable("the store went away")
        opened.append(name)
        return real(name)

    monkeypatch.setattr(site.place, "open", opening)
    engine = site.engine()
    assert "the store went away" in until(engine, State.PARKED)
    engine.stop(1.0)
    assert len([path for path in (site.directory / "state").glob("0.restoring/*") if not path.suffix]) == 3
    fails = False
    engine = site.engine()
    site.work()
    engine.stop(1.0)
    assert "restored" in caplog.text
    files = [name for name in opened if "/files/" in name]
    assert len(files) == len(set(files)) > 3, "nothing is fetched twice"


@pytest.mark.parametrize("whole", [True, False])
def test_a_place_that_does_not_answer(site: Site, monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    offset = taken(site)
    if not whole:
        trim(site, offset)

    def away(folder: str) -> None:
        raise CheckpointsUnavailable("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(site.place, "names", away)
        engine = site.engine()
        if whole:
            # The log is all there is to it: folding it is slower, and right.
            site.work()
            deadline = time.monotonic() + PATIENCE_S
            while "the store is away" not in engine.health().checkpoints:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert engine.health().ready
        else:
            problem = until(engine, State.PARKED)
            assert f"the log starts at offset {offset}, and the store is away" in problem
    # It comes back, and with it what was missing.
    until(engine, State.OWNED)
    site.work()
    deadline = time.monotonic() + PATIENCE_S
    while engine.health().checkpoints != "ok":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    engine.stop(1.0)


def test_what_a_killed_process_left_beside_the_state_is_removed(site: Site) -> None:
    for name in ("0.checkpoint-12-3", "0.restoring", "0.restored", "1.restoring"):
        (site.directory / "state" / name).mkdir(parents=True)
    engine = site.engine()
    site.work()
    engine.stop(1.0)
    assert sorted(path.name for path in (site.directory / "state").iterdir()) == ["0", "1.restoring"]


def test_partitions_are_kept_apart(rig: Callable[..., Rig], tmp_path: Path) -> None:
    one = Site(rig(code("kept"), 2), tmp_path)
    engine = one.engine()
    names = [f"v{number}" for number in range(20)]
    for name in names:
        one.rig.start(name, one.rig.app.adds, 0)  # type: ignore[attr-defined]
    assert {one.rig.result(name) for name in names} == {b"4"}
    assert {partition_of(name.encode(), 2) for name in names} == {0, 1}
    deadline = time.monotonic() + PATIENCE_S
    while one.kept.partitions() != [0, 1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    engine.stop(1.0)
    for number in (0, 1):
        for found in one.kept.found(number):
            assert found.manifest is not None
            assert found.manifest.head.identity.partition == number
