"""Checkpoints: what was copied comes back to the byte, and what was torn, altered or is another's is refused."""

from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import failpoints
from orchestrator.codec.records import Codec
from orchestrator.core.rows import META, POSITION_KEY, RUNS, CurrentRow, PositionRow
from orchestrator.core.values import BatchId, InputPosition
from orchestrator.errors import CheckpointRefused, CheckpointsUnavailable, ConfigurationError, StoreError
from orchestrator.store.checkpoint import Abandoned, Checkpoints, Written
from orchestrator.store.manifest import Head, Identity, Manifest
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.partition_store import PartitionStore
from orchestrator.store.places import DirectoryPlace, Place, place_of
from orchestrator.store.rows import Store, state_hash
from tests.architecture.source import ROOT
from tests.store.s3_server import S3Server

pytestmark = pytest.mark.slow

IDENTITY = Identity("shop", 3, "cluster", "topic")


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A directory, or a bucket behind HTTP."""
    if request.param == "directory":
        yield place_of((tmp_path / "kept").as_uri(), "shop")
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with S3Server("backups") as server:
        yield place_of("s3://backups/deep/down", "shop", server.endpoint)


class Site:
    """A partition's live state that grows, and its checkpoints."""

    def __init__(self, place: Place, directory: Path, rng: random.Random) -> None:
        self.kept = Checkpoints(place, keep=2, spared_s=0.0)
        self.store: Store = PartitionStore(directory / "3", Codec())
        self.directory = directory
        self._rng = rng
        self._batch = 0

    def grow(self, rows: int = 50) -> Head:
        """More rows, one batch; where the state stands now."""
        self._batch += 1
        offset = self._batch * 100
        batch, footer_hash = BatchId(1, self._batch), self._rng.randbytes(32)
        position = PositionRow(
            offset + 1, batch, footer_hash, InputPosition("cluster", "commands", 3, offset), offset, batch, 1
        )
        keys = [f"w{self._rng.randrange(10**12)}" for _ in range(rows)]
        changes = {(RUNS, (key,)): CurrentRow(key) for key in keys}
        self.store.write({**changes, (META, POSITION_KEY): position})
        self.store.set_hint("identity", b"mine")
        return Head(IDENTITY, offset, footer_hash, batch, 1_700_000_000_000, 1)

    def take(self, head: Head) -> Written:
        """A checkpoint of the state as it is."""
        copy = self.directory / f"copy-{head.offset}"
        self.store.snapshot(copy)
        return self.kept.write(head, copy)

    def restored(self, manifest: Manifest, directory: Path) -> bytes:
        """Restore into a directory; the state's hash."""
        self.kept.fetch(manifest, directory / "staging", directory / "target")
        store = PartitionStore(directory / "other", Codec())
        store.replace(directory / "target")
        try:
            assert store.hint("identity") == b"mine"
            return state_hash(store)
        finally:
            store.close()

    def newest(self) -> Manifest:
        """The newest checkpoint, which must be whole."""
        found = self.kept.found(3)[0]
        assert found.manifest is not None, found.problem
        return found.manifest


@pytest.fixture
def site(place: Place, tmp_path: Path, rng: random.Random) -> Iterator[Site]:
    one = Site(place, tmp_path, rng)
    yield one
    failpoints.install("")
    one.store.close()


def spoil(place: Place, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file behind everybody's back."""
    with place.open(name) as file:
        data = file.read()
    place.put(name, io.BytesIO(change(data)))


def flipped(data: bytes) -> bytes:
    """One bit of the middle is another."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_restore_has_the_state_of_the_checkpoint_not_of_later(site: Site, tmp_path: Path) -> None:
    head = site.grow()
    live = state_hash(site.store)
    site.take(head)
    site.grow()
    assert state_hash(site.store) != live
    manifest = site.newest()
    assert manifest.head == head
    assert site.restored(manifest, tmp_path / "new") == live
    assert site.kept.partitions() == [3]


def test_only_what_is_new_is_uploaded(site: Site) -> None:
    first = site.take(site.grow(5_000))
    assert first.uploaded == first.files
    second = site.take(site.grow(10))
    assert second.files > first.files
    # The new table, RocksDB's own manifest, and nothing of what was there.
    assert 0 < second.uploaded <= 4
    assert second.uploaded_bytes < first.uploaded_bytes / 5
    # Another process of the same partition knows no inode, and uploads no more.
    again = Checkpoints(site.kept.place, keep=2, spared_s=0.0).write(site.grow(0), site.directory / "copy-200")
    assert again.uploaded == 0
    for one in site.kept.found(3):
        assert one.manifest is not None
        site.kept.verify(one.manifest, set())


def test_old_checkpoints_go_with_what_only_they_need(site: Site, tmp_path: Path) -> None:
    for _ in range(5):
        site.take(site.grow())
    found = site.kept.found(3)
    assert [one.manifest.head.offset for one in found if one.manifest] == [500, 400]
    named = {f"3/files/{entry.sha256}" for one in found if one.manifest for entry in one.manifest.files}
    assert site.kept.place.names("").keys() == named | {one.name for one in found}
    assert site.restored(site.newest(), tmp_path / "new") == state_hash(site.store)


def test_what_another_process_may_be_about_to_name_is_left(site: Site) -> None:
    site.kept = Checkpoints(site.kept.place, keep=1)
    site.kept.place.put(f"3/files/{'0' * 64}", io.BytesIO(b"of a checkpoint that is under way"))
    site.take(site.grow())
    assert f"3/files/{'0' * 64}" in site.kept.place.names("3")


def test_a_file_that_is_missing_or_altered_is_refused(site: Site, tmp_path: Path) -> None:
    site.take(site.grow())
    manifest = site.newest()
    table = max(manifest.files, key=lambda entry: entry.size)
    name = f"3/files/{table.sha256}"
    spoil(site.kept.place, name, flipped)
    with pytest.raises(CheckpointRefused, match=f"{table.sha256}.*not those of {table.name}"):
        site.restored(manifest, tmp_path / "new")
    with pytest.raises(CheckpointRefused, match=table.sha256):
        site.kept.verify(manifest, set())
    assert not (tmp_path / "new" / "target").exists()
    site.kept.place.remove(name)
    with pytest.raises(CheckpointRefused, match=f"{table.sha256} is missing"):
        site.restored(manifest, tmp_path / "new")
    # The next checkpoint puts it back.
    site.take(site.grow(0))
    assert site.restored(manifest, tmp_path / "new")


@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], flipped, lambda data: b""])
def test_a_torn_or_altered_manifest_is_refused(site: Site, change: Callable[[bytes], bytes]) -> None:
    site.take(site.grow())
    site.take(site.grow())
    newest, before = site.kept.found(3)
    spoil(site.kept.place, newest.name, change)
    torn, whole = site.kept.found(3)
    assert torn.manifest is None
    assert "it is torn, or was changed" in torn.problem
    assert whole == before
    # It goes once it is old; nothing that it may need goes before.
    site.take(site.grow())
    assert torn in site.kept.found(3)
    site.take(site.grow())
    assert torn not in site.kept.found(3)


def rewritten(site: Site, **changes: object) -> str:
    """The newest manifest with other words, under the name that fits it; why it is refused."""
    old = site.kept.found(3)[0]
    with site.kept.place.open(old.name) as file:
        data = json.dumps(json.loads(file.read()) | changes).encode()
    site.kept.place.remove(old.name)
    name = f"{old.name.rsplit('-', 1)[0]}-{hashlib.sha256(data).hexdigest()}.json"
    site.kept.place.put(name, io.BytesIO(data))
    return site.kept.found(3)[0].problem


def test_a_manifest_of_a_later_release_or_of_elsewhere_is_refused(site: Site) -> None:
    site.take(site.grow())
    assert "upgrade before it is used" in rewritten(site, level=9)
    assert "upgrade before it is used" in rewritten(site, level=1, format=2)
    assert "another partition's" in rewritten(site, format=1, partition=4)
    outside = [{"name": "../../outside", "size": 1, "sha256": "0" * 64}]
    assert "no file of a state directory" in rewritten(site, partition=3, files=outside)
    assert "none of ours" in rewritten(site, files=None)
    # Nothing that a later release's checkpoint may need is removed.
    site.take(site.grow())
    before = site.kept.place.names("3").keys()
    site.kept.prune(3)
    assert site.kept.place.names("3").keys() == before


def test_a_restore_that_was_cut_off_goes_on_with_what_it_has(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.take(site.grow())
    manifest = site.newest()
    opened: list[str] = []
    real = site.kept.place.open
    monkeypatch.setattr(site.kept.place, "open", lambda name: (opened.append(name), real(name))[1])
    for hit in (1, 4):
        failpoints.install(f"K16:{hit}:raise")
        with pytest.raises(failpoints.InjectedFault):
            site.restored(manifest, tmp_path / "new")
    assert len(opened) == 3
    # A part that was cut off, and a file that was altered here, are fetched again.
    staged = sorted((tmp_path / "new" / "staging").iterdir())
    staged[0].write_bytes(b"altered")
    failpoints.install("")
    assert site.restored(manifest, tmp_path / "new") == state_hash(site.store)
    assert len(opened) == len({entry.sha256 for entry in manifest.files}) + 1


def test_a_death_at_any_upload_leaves_the_checkpoint_before(site: Site, tmp_path: Path) -> None:
    site.take(site.grow())
    before = site.kept.found(3)
    live = state_hash(site.store)
    head = site.grow()
    for number in range(100):
        failpoints.install(f"K15:{number + 1}:raise")
        copy = tmp_path / f"copy-{number}"
        site.store.snapshot(copy)
        try:
            Checkpoints(site.kept.place, 2, 0.0).write(head, copy)
        except failpoints.InjectedFault:
            assert site.kept.found(3) == before
        else:
            break
        # What was uploaded is not uploaded again: each death lets one file more through, and the next dies on.
        failpoints.install("")
    assert 0 < number < 20
    assert len(site.kept.found(3)) == 2
    assert site.restored(site.newest(), tmp_path / "new") == state_hash(site.store)
    before_last = site.kept.found(3)[1].manifest
    assert before_last is not None
    assert site.restored(before_last, tmp_path / "older") == live


def test_an_upload_that_is_given_up_publishes_nothing(site: Site) -> None:
    head = site.grow()
    site.store.snapshot(site.directory / "copy")
    asked = iter([False, False, True])
    with pytest.raises(Abandoned):
        site.kept.write(head, site.directory / "copy", lambda: next(asked))
    assert site.kept.found(3) == []
    site.kept.prune(3)
    assert len(site.kept.place.names("")) == 0


@pytest.mark.parametrize("hit", [1, 3])
def test_a_kill_at_an_upload_leaves_the_checkpoint_before(tmp_path: Path, rng: random.Random, hit: int) -> None:
    """SIGKILL, of a process: what it was writing has no name."""
    place = place_of(str(tmp_path / "kept"), "shop")
    site = Site(place, tmp_path, rng)
    try:
        site.take(site.grow())
        before = site.kept.found(3)
        head = site.grow()
        site.store.snapshot(tmp_path / "copy")
        code = (
            "import sys; from pathlib import Path; from orchestrator.store.checkpoint import Checkpoints\n"
            "from orchestrator.store.places import place_of; from orchestrator.store.manifest import Head, Identity\n"
            "from orchestrator.core.values import BatchId\n"
            f"head = Head(Identity(*{tuple(IDENTITY)!r}), {head.offset}, {head.footer_hash!r},"
            f" BatchId(*{tuple(head.batch)!r}), 0, 1)\n"
            "Checkpoints(place_of(sys.argv[1], 'shop'), 2, 0.0).write(head, Path(sys.argv[2]))\n"
        )
        words = [sys.executable, "-c", code, str(tmp_path / "kept"), str(tmp_path / "copy")]
        ended = subprocess.run(words, cwd=ROOT, env={"ORCHESTRATOR_FAILPOINTS": f"K15:{hit}:kill"}, check=False)
        assert ended.returncode == -signal.SIGKILL
        assert any(".new-" in name for name in place.names(""))
        assert site.kept.found(3) == before
        site.kept.verify(site.newest(), set())
        site.take(site.grow())
        assert not any(".new-" in name for name in place.names(""))
        assert site.restored(site.newest(), tmp_path / "new") == state_hash(site.store)
    finally:
        site.store.close()


def test_a_full_local_disk_is_no_fault_of_the_place(site: Site, tmp_path: Path) -> None:
    site.take(site.grow())
    (tmp_path / "new").write_bytes(b"in the way")
    with pytest.raises(StoreError, match="cannot be used"):
        site.kept.fetch(site.newest(), tmp_path / "new" / "staging", tmp_path / "new" / "target")


def test_a_store_in_memory_is_copied_too(tmp_path: Path, rng: random.Random) -> None:
    one = Site(DirectoryPlace(tmp_path / "kept"), tmp_path, rng)
    one.store.close()
    one.store = MemoryStore(Codec())
    head = one.grow()
    one.take(head)
    one.kept.fetch(one.newest(), tmp_path / "staging", tmp_path / "target")
    other = MemoryStore(Codec())
    other.replace(tmp_path / "target")
    assert state_hash(other) == state_hash(one.store)
    assert other.hint("identity") == b"mine"


def test_a_place_that_cannot_be_used_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = DirectoryPlace(tmp_path / "file")
    with pytest.raises(CheckpointsUnavailable, match="cannot be written"):
        place.put("3/files/a", io.BytesIO(b"x"))
    with pytest.raises(CheckpointRefused, match="missing"):
        DirectoryPlace(tmp_path / "nowhere").open("3/files/a").__enter__()
    assert DirectoryPlace(tmp_path / "nowhere").names("3") == {}


@pytest.mark.parametrize("url", ["", "http://example.org/x", "file://elsewhere/x", "s3:///prefix"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ORCHESTRATOR_CHECKPOINT_URL"):
        place_of(url, "shop")


def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place_of("~/kept", "shop").where == str(tmp_path / "kept" / "shop")
    assert place_of("file:///with%20space", "shop").where == "/with space/shop"


def test_a_bucket_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with S3Server("backups") as server:
        place = place_of("s3://backups/down", "shop", server.endpoint)
        server.refuse = 403
        for use in (lambda: place.names("3"), lambda: place.put("a", io.BytesIO(b"x")), lambda: place.remove("a")):
            with pytest.raises(CheckpointsUnavailable, match="s3://backups/down/shop cannot be"):
                use()
        server.refuse = 0
        with pytest.raises(CheckpointsUnavailable, match="NoSuchBucket"):
            place_of("s3://another", "shop", server.endpoint).names("3")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        place_of("s3://backups", "shop", "no address")


def test_a_bucket_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match=r"durable-orchestrator\[s3\]"):
        place_of("s3://backups", "shop")
