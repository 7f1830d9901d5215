"""`orchestrator checkpoint`: what is kept, and whether it is whole."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import main
from orchestrator.store.places import place_of
from tests.store.test_checkpoint import Site

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command's JSON lines, or its text; checked to have ended with `code`."""
    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", "shop")
    monkeypatch.setenv("ORCHESTRATOR_CHECKPOINT_URL", str(tmp_path / "kept"))

    def one(*words: str, code: int = 0) -> Any:
        assert main(["checkpoint", *words]) == code
        out, err = capsys.readouterr()
        return [json.loads(line) for line in out.splitlines()] if "jsonl" in words else out + err

    return one


def test_what_is_kept_is_listed_and_verified(run: Run, tmp_path: Path, rng: random.Random) -> None:
    assert f"no checkpoint in {tmp_path / 'kept' / 'shop'}" in run("list")
    place = place_of(str(tmp_path / "kept"), "shop")
    site = Site(place, tmp_path, rng)
    heads = []
    for _ in range(2):
        heads.append(site.grow())
        site.take(heads[-1])
    site.store.close()

    rows = run("list", "-o", "jsonl")
    assert [(row["partition"], row["offset"], row["batch"], row["says"]) for row in rows] == [
        (3, 200, "1/2", ""),
        (3, 100, "1/1", ""),
    ]
    assert [row["footer_hash"] for row in rows] == [head.footer_hash.hex() for head in reversed(heads)]
    assert "2023-11-14 22:13:20Z" in run("list")
    assert run("list", "--partition", "2", "-o", "jsonl") == []
    assert [(row["ok"], row["says"]) for row in run("verify", "-o", "jsonl")] == [(True, "whole")] * 2

    newest, older = (one.manifest for one in site.kept.found(3))
    assert newest is not None
    assert older is not None
    own = next(entry for entry in newest.files if entry not in older.files and entry.size)
    path = tmp_path / "kept" / "shop" / "3" / "files" / own.sha256
    path.write_bytes(path.read_bytes()[1:])
    found = run("verify", "-o", "jsonl", code=1)
    assert [row["ok"] for row in found] == [False, True]
    assert own.sha256 in found[0]["says"]
    manifest = tmp_path / "kept" / "shop" / "3" / "manifests" / rows[0]["manifest"]
    manifest.write_bytes(b"{}")
    assert "it is torn" in run("list")
    assert [row["ok"] for row in run("verify", "-o", "jsonl", code=1)] == [False, True]


def test_without_an_address_the_setting_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRATOR_CHECKPOINT_URL")
    assert "ORCHESTRATOR_CHECKPOINT_URL" in run("list", code=2)
