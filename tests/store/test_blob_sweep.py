"""Sweeping: what is named stays, what is young stays, and what is put again while it goes is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.core.values import BlobRef
from orchestrator.store import blob_sweep
from orchestrator.store.blob_sweep import Swept, owners, sweep
from orchestrator.store.blobs import DirectoryBlobs

NOW_S, LONG_AGO_S = 1_700_000_000.0, 1_600_000_000.0


def put(blobs: DirectoryBlobs, data: bytes, at_s: float) -> BlobRef:
    ref = blobs.put(data)
    os.utime(path_of(blobs, ref), (at_s, at_s))
    return ref


def path_of(blobs: DirectoryBlobs, ref: BlobRef) -> Path:
    return blobs.directory / ref.name[:2] / ref.name


def test_what_nobody_names_goes_unless_it_is_young(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    named, unnamed = put(blobs, b"named", LONG_AGO_S), put(blobs, b"unnamed", LONG_AGO_S)
    young = put(blobs, b"young", NOW_S)
    swept = Swept(named=1, young=1, unnamed=1, bytes=7)
    assert sweep(tmp_path, {named.name}, NOW_S, delete=False) == swept
    assert path_of(blobs, unnamed).exists(), "only counted"
    assert sweep(tmp_path, {named.name}, NOW_S, delete=True) == swept
    assert [path_of(blobs, ref).exists() for ref in (named, unnamed, young)] == [True, False, True]
    assert blobs.get(named) == b"named"
    assert (tmp_path / "key").exists()


def test_what_is_put_again_is_young(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    ref = put(blobs, b"again", LONG_AGO_S)
    blobs.put(b"again")
    assert sweep(tmp_path, set(), NOW_S, delete=True).young == 1
    assert blobs.get(ref) == b"again"


@pytest.mark.parametrize("when", ["before it is renamed", "after it was renamed"])
def test_what_is_put_while_it_goes_is_there_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    blobs = DirectoryBlobs(tmp_path)
    ref = put(blobs, b"again", LONG_AGO_S)
    replace = os.replace

    def replaced(source: Path, target: Path) -> None:
        monkeypatch.setattr(blob_sweep.os, "replace", replace)
        if when.startswith("before"):
            blobs.put(b"again")
        replace(source, target)
        if when.startswith("after"):
            blobs.put(b"again")

    monkeypatch.setattr(blob_sweep.os, "replace", replaced)
    sweep(tmp_path, set(), NOW_S, delete=True)
    assert blobs.get(ref) == b"again"
    assert {path.name for path in tmp_path.glob("??/*")} == {ref.name}


def test_leftovers_of_processes_that_died_go_too(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    ref = blobs.put(b"one")
    for name in (".new-xyz", f".going-{ref.name}"):
        left = path_of(blobs, ref).with_name(name)
        left.write_bytes(b"")
        os.utime(left, (LONG_AGO_S, LONG_AGO_S))
    assert sweep(tmp_path, {ref.name}, NOW_S, delete=True) == Swept(named=1, young=0, unnamed=2, bytes=0)
    assert {path.name for path in tmp_path.glob("??/*")} == {ref.name}


def test_who_keeps_blobs_here_is_noted_once_something_is_kept(tmp_path: Path) -> None:
    assert owners(tmp_path) == set()
    shop = DirectoryBlobs(tmp_path, "shop")
    assert owners(tmp_path) == set()
    for data in (b"one", b"two"):
        shop.put(data)
    DirectoryBlobs(tmp_path, "mail").put(b"three")
    assert owners(tmp_path) == {"shop", "mail"}


def test_an_empty_directory_has_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none", set(), NOW_S, delete=True) == Swept(0, 0, 0, 0)
