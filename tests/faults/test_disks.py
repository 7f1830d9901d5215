"""State directories damaged, lost, foreign, old, full or half restored: the log's state, or none, never another."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from orchestrator.core import commands as c
from orchestrator.core.rows import META, POSITION_KEY
from orchestrator.core.values import Payload
from orchestrator.engine import partition, restored as restoring
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from orchestrator.errors import LogReplaced
from orchestrator.store import partition_store
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.partition_store import PartitionStore, open_or_rebuild
from orchestrator.store.rows import state_hash
from tests.engine.rig import MemorySite, Rig
from tests.faults import disks
from tests.faults.disks import CODEC, INJURIES, KINDS, Disks, Played
from tests.faults.poison_app import app, doubles

pytestmark = pytest.mark.slow

PATIENCE_S = 30.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """One log and its images for all tests of this file."""
    found = Played(tmp_path_factory.mktemp("played"))
    yield found
    found.rig.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log in memory needs no second to say that nothing more comes."""
    monkeypatch.setattr(restoring, "NEAR_WAIT_S", 0.02)


def until(holds: Callable[[], object], shown: object = "") -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, shown
        time.sleep(0.01)


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_injured_file_is_harmless_or_found_and_the_state_is_the_logs(
    played: Played, kind: str, rng: random.Random, tmp_path: Path
) -> None:
    cases = [(kind, injury) for injury in rng.sample(INJURIES, 2)]
    found = disks.campaign(played, tmp_path, rng, cases)
    assert found
    assert not [name for name in found if ": !" in name], found


def test_a_damaged_block_ends_no_scan_early_and_is_no_missing_row(played: Played, tmp_path: Path) -> None:
    """Every table is damaged behind its index: nothing that is read of it may pass for what was written."""
    directory = tmp_path / "0"
    shutil.copytree(played.closed, directory)
    for path in directory.glob("*.sst"):
        data = bytearray(path.read_bytes())
        data[10] ^= 0x40
        path.write_bytes(data)
    partition_store._shared.cache_clear()
    store = None
    try:
        store = PartitionStore(directory, CODEC)
        state_hash(store)
    except disks.StoreDamaged as error:
        said = str(error)
    assert "checksum mismatch" in said
    del store
    gc.collect()
    assert played.outcome(directory) in ("open", "read")


def test_an_engine_that_meets_damage_sets_the_directory_aside_and_goes_on(
    tmp_path: Path, rng: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    one = Rig(app, MemorySite(app.name, 1))
    engine = one.engine(stores=Disks(tmp_path))
    names = [f"w{number}" for number in range(40)]
    try:
        for number, name in enumerate(names):
            memo = Payload(data=b'"%s"' % rng.randbytes(2_000).hex().encode())
            one.start(name, doubles, number, memo=memo)
            one.result(name)
        engine.stop(5.0)
        # The middle of the largest table: what is read at the start lies before it.
        path = max((tmp_path / "0").glob("*.sst"), key=lambda path: path.stat().st_size)
        data = bytearray(path.read_bytes())
        data[len(data) // 4 : len(data) // 2] = rng.randbytes(len(data) // 2 - len(data) // 4)
        path.write_bytes(data)
        partition_store._shared.cache_clear()
        again = one.engine(stores=Disks(tmp_path))
        until(lambda: 0 in again.partitions and again.partitions[0].state is State.OWNED)
        assert not list(tmp_path.glob("0.aside-*"))
        for number, name in enumerate(names):
            # Nobody answers the question that finds the damage; its asker asks again.
            found = [*one.answers(one.send(name, c.QueryWorkflow("history")), wait_s=0.5)]
            assert all(reply.outcome == "answered" for reply in found)
            assert one.result(name) == b"%d" % (8 * number)
        one.start("after", doubles, 7)
        assert one.result("after") == b"56"
        kept = list(tmp_path.glob("0.aside-*"))
        assert len(kept) == 1
        assert list(kept[0].glob("*.sst"))
        said = [record.message for record in caplog.records if "aside" in record.message]
        assert len(said) == 1
        assert "damaged" in said[0]
    finally:
        one.close()
    assert_the_logs_state(one, tmp_path / "0")


def assert_the_logs_state(one: Rig, directory: Path) -> None:
    """A closed directory holds what the log says."""
    store, fresh = PartitionStore(directory, CODEC), MemoryStore(CODEC)
    ground = disks.ground_of(one.site.log(app.name), fresh, CODEC, 0)
    disks.restore_whole(ground)
    ground.give_up()
    ground.log.close()
    assert state_hash(store) == state_hash(fresh)
    store.close()


# -- not ours, not of this release, not of this log --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [({"partition": 7}, "holds poison/7"), ({"app": "other"}, "holds other/0"), ({"format": 0}, "of format 0"),
     ({"format": 99}, "of format 99")],
)  # fmt: skip
def test_a_foreign_or_other_format_is_set_aside_and_the_state_rebuilt(
    played: Played, change: dict[str, object], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "0"
    shutil.copytree(played.closed, directory)
    store = PartitionStore(directory, CODEC)
    identity = json.loads(store.hint("identity") or b"{}")
    store.set_hint("identity", json.dumps(identity | change).encode())
    store.close()
    assert played.outcome(directory) == "harmless"
    assert said in caplog.text
    (kept,) = tmp_path.glob("0.aside-*")
    store = PartitionStore(kept, CODEC)
    assert store.get(META, POSITION_KEY) is not None
    store.close()


def test_a_directory_that_is_lost_is_folded_anew(played: Played, tmp_path: Path) -> None:
    assert played.outcome(tmp_path / "0") == "harmless"


def test_a_state_from_the_future_is_kept_as_the_witness_that_it_is(played: Played, tmp_path: Path) -> None:
    """The log ends before what the state reflects: nothing is rebuilt, nothing is overwritten."""
    disks.save(played, tmp_path / "log")
    cluster = disks.load(tmp_path / "log")
    directory = tmp_path / "0"
    shutil.copytree(played.closed, directory)
    before = disks.position(directory)
    assert before is not None
    log = cluster.partition(f"{app.name}.events", 0)
    del log.entries[before.next_offset - 3 :]
    store = open_or_rebuild(directory, CODEC)
    memory = disks.MemoryLog(cluster, app.name, disks.MemoryGroup(1))
    ground = disks.ground_of(memory, store, CODEC, 0)
    with pytest.raises(LogReplaced, match="it was cut or replaced"):
        ground.restore()
    ground.give_up()
    memory.close()
    store.close()
    assert disks.position(directory) == before
    assert not list(tmp_path.glob("0.aside-*"))


def test_a_log_whose_start_was_deleted_is_never_begun_empty(played: Played, tmp_path: Path) -> None:
    """With a state that reaches to it the partition goes on; damaged or without one it stands still."""
    disks.save(played, tmp_path / "log")
    cluster = disks.load(tmp_path / "log")
    log = cluster.partition(f"{app.name}.events", 0)
    at = disks.position(played.closed)
    assert at is not None
    cut = at.next_offset - 1
    del log.entries[:cut]
    log.start = cut
    for name, damage, goes_on in (("whole", "", True), ("hurt", "CURRENT", False), ("lost", "all", False)):
        directory = tmp_path / name
        if damage != "all":
            shutil.copytree(played.closed, directory)
        if damage == "CURRENT":
            (directory / "CURRENT").write_bytes(b"")
        store = open_or_rebuild(directory, CODEC)
        memory = disks.MemoryLog(cluster, app.name, disks.MemoryGroup(1))
        ground = disks.ground_of(memory, store, CODEC, 0)
        if goes_on:
            disks.restore_whole(ground)
            assert state_hash(store) == played.hash
        else:
            with pytest.raises(LogReplaced, match="never starts empty"):
                ground.restore()
            assert store.get(META, POSITION_KEY) is None
        ground.give_up()
        memory.close()
        store.close()


# -- a restore that is killed ------------------------------------------------------------------------------------------

RESTORE = """
import pathlib, sys
from tests.faults import disks
print(disks.restore(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])))
"""
SLICE = 40


@pytest.mark.slow
def test_a_restore_that_is_killed_goes_on_where_its_last_slice_was_written(played: Played, tmp_path: Path) -> None:
    """Two deaths; what is folded each time begins behind the last write, which the events that are left show."""
    disks.save(played, tmp_path / "log")
    batches = [batch for batch in played.rig.batches() if not batch.is_claim]
    reached = [0]
    for hit in (100, 150):
        died = restored(tmp_path, f"K16:{hit}:kill")
        assert died.returncode == -signal.SIGKILL, died.stderr
        position = disks.position(tmp_path / "0")
        assert position is not None
        folded = sum(len(batch.records) for batch in batches if batch.offset < position.next_offset)
        assert folded > reached[-1]
        reached.append(folded)
    last = restored(tmp_path, "")
    assert last.returncode == 0, last.stderr
    assert int(last.stdout) == sum(len(batch.records) for batch in batches) - reached[-1]
    store = PartitionStore(tmp_path / "0", CODEC)
    assert state_hash(store) == played.hash
    store.close()


def restored(directory: Path, plan: str) -> subprocess.CompletedProcess[str]:
    """Restore in a process of its own, which dies as planned."""
    return subprocess.run(
        [sys.executable, "-c", RESTORE, directory / "log", directory / "0", str(SLICE)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "ORCHESTRATOR_FAILPOINTS": plan},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# -- a full disk -------------------------------------------------------------------------------------------------------


def fill_up(root: Path, fill: Callable[[], None], make_room: Callable[[], None]) -> None:
    """An engine whose disk is full stands still with a sentence, and goes on by itself when there is room."""
    one = Rig(app, MemorySite(app.name, 1))
    engine = one.engine(stores=Disks(root))
    patient = mock.patch.object(partition, "RETRY_S", 0.2)
    patient.start()
    try:
        one.start("before", doubles, 1)
        assert one.result("before") == b"8"
        fill()
        # Large memos, so that whatever is left of the disk is used up.
        memo = Payload(data=b'"%s"' % (b"m" * 60_000))
        for number in range(40):
            one.send(f"w{number}", c.StartWorkflow("doubles", doubles.code.signature.bind((number,), {}), memo=memo))
        until(lambda: stands_still(engine), lambda: engine.partitions[0].problem)
        make_room()
        for number in range(40):
            assert one.result(f"w{number}") == b"%d" % (8 * number)
        assert engine.partitions[0].problem == ""
    finally:
        make_room()
        one.close()
        patient.stop()
    assert_the_logs_state(one, root / "0")


def stands_still(engine: Engine) -> bool:
    found = engine.partitions[0]
    return found.state is State.PARKED and "the disk is full" in found.problem


def test_a_file_system_without_room_stops_the_partition_until_there_is_some(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        # That needs root: files that may not grow are the next best thing.
        in_a_process_of_its_own(tmp_path)
        return
    ballast = tmp_path / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4_096))
            except OSError:
                return

    try:
        fill_up(tmp_path, fill, lambda: ballast.unlink(missing_ok=True))
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def limited(root: Path) -> None:
    """The same where every file has come to its largest size."""
    logging.disable()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill_up(
        root,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard)),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)),
    )


@pytest.mark.slow
def test_files_that_may_not_grow_stop_the_partition_until_they_may(tmp_path: Path) -> None:
    in_a_process_of_its_own(tmp_path)


def in_a_process_of_its_own(root: Path) -> None:
    """`limited`: the limit is the process's."""
    code = "import pathlib, sys; from tests.faults import test_disks; test_disks.limited(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, root],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
