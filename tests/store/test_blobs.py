"""Blob stores: what is put comes back, and nothing else does."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.core.values import BlobRef
from orchestrator.errors import BlobAltered, BlobMissing, BlobsUnavailable
from orchestrator.store.blobs import Blobs, DirectoryBlobs, MemoryBlobs

DATA = b"large" * 50_000


@pytest.fixture(params=["directory", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return DirectoryBlobs(tmp_path / "not" / "yet") if request.param == "directory" else MemoryBlobs()


def test_what_is_put_comes_back_under_a_name_that_tells_nothing(blobs: Blobs) -> None:
    ref = blobs.put(DATA)
    assert ref.size == len(DATA)
    assert ref.name != hashlib.sha256(DATA).hexdigest(), "whoever reads the log could check a guess"
    assert blobs.put(DATA) == ref
    assert blobs.get(ref) == DATA


def test_a_missing_blob_is_named(blobs: Blobs) -> None:
    ref = BlobRef("directory", "0" * 64, 7)
    with pytest.raises(BlobMissing, match="0" * 64):
        blobs.get(ref)


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(BlobMissing, match="ORCHESTRATOR_BLOB_DIR"):
        DirectoryBlobs(tmp_path).get(BlobRef("directory", "0" * 64, 7))


def test_an_altered_file_is_refused_and_written_anew(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    ref = blobs.put(DATA)
    path = tmp_path / ref.name[:2] / ref.name
    path.write_bytes(DATA[:-1] + b"X")
    with pytest.raises(BlobAltered, match=ref.name):
        blobs.get(ref)
    blobs.put(DATA)
    assert blobs.get(ref) == DATA


def test_nothing_else_is_left_beside_a_blob(tmp_path: Path) -> None:
    ref = DirectoryBlobs(tmp_path).put(DATA)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {ref.name, "key"}
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_all_who_use_a_directory_have_one_key_and_another_directory_another(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: DirectoryBlobs(tmp_path / "a").put(DATA).name, range(32)))
    assert len(names) == 1
    assert names != {DirectoryBlobs(tmp_path / "b").put(DATA).name}


def test_a_key_that_was_cut_is_named(tmp_path: Path) -> None:
    ref = DirectoryBlobs(tmp_path).put(DATA)
    (tmp_path / "key").write_bytes(b"short")
    for use in (lambda: DirectoryBlobs(tmp_path).get(ref), lambda: DirectoryBlobs(tmp_path).put(DATA)):
        with pytest.raises(BlobsUnavailable, match="restore it"):
            use()


def test_a_lost_key_is_named_and_never_made_anew(tmp_path: Path) -> None:
    ref = DirectoryBlobs(tmp_path).put(DATA)
    (tmp_path / "key").unlink()
    for use in (lambda: DirectoryBlobs(tmp_path).get(ref), lambda: DirectoryBlobs(tmp_path).put(b"other")):
        with pytest.raises(BlobsUnavailable, match="key is gone: restore it"):
            use()
    assert not (tmp_path / "key").exists()


def test_a_directory_that_is_none_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BlobsUnavailable, match="cannot be written"):
        DirectoryBlobs(tmp_path / "file").put(DATA)


def test_a_name_from_the_log_leads_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(BlobMissing, match="no blob name"):
        DirectoryBlobs(tmp_path).get(BlobRef("directory", "../../etc/passwd", 1))
