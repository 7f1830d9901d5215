"""`orchestrator blobs sweep` on a real broker: the log says which large values are still somebody's."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.cli.main import main
from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from orchestrator.devkafka import DevKafka
from orchestrator.engine.options import EngineOptions
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics
from orchestrator.store.blobs import DirectoryBlobs
from tests.engine.rig import KafkaSite, Rig

LONG_AGO_S = 1_600_000_000.0


@pytest.mark.broker
def test_what_no_event_names_is_counted_and_then_deleted(
    kafka: DevKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = Orchestrator(f"sweep-{uuid.uuid4().hex[:8]}")
    said = app.signal("said", str)

    @app.workflow
    async def hears() -> int:
        return len(await said.wait())

    blobs = DirectoryBlobs(tmp_path, app.name)
    one = Rig(app, KafkaSite(app.name, kafka.bootstrap))
    try:
        one.engine(EngineOptions(blobs=blobs))
        one.start("w", hears)
        one.accepted("w", c.SignalWorkflow("said", Payload(data=b'"' + b"x" * 100_000 + b'"')))
        assert one.result("w") == b"100000"
    finally:
        one.close()
    orphan = blobs.put(b"never sent")
    paths = {path.name: path for path in tmp_path.glob("??/*")}
    for path in paths.values():
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", app.name)
    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("ORCHESTRATOR_BLOB_DIR", str(tmp_path))

    def run(*words: str, code: int = 0) -> Any:
        assert main(["blobs", "sweep", *words, "-o", "json"]) == code
        out, err = capsys.readouterr()
        return json.loads(out) if not code else err

    counted = {"directory": str(tmp_path), "named": 1, "young": 0, "unnamed": 1, "bytes": 10}
    assert run() == {**counted, "deleted": False}
    assert all(path.exists() for path in paths.values())

    other = f"other-{uuid.uuid4().hex[:8]}"
    DirectoryBlobs(tmp_path, other).put(b"theirs")
    assert f"--also {other}" in run("--delete", code=2)
    init_topics(LogConfig(other, kafka.bootstrap), 1)
    assert run("--delete", "--also", other) == {**counted, "young": 1, "deleted": True}
    assert not paths.pop(orphan.name).exists()
    assert all(path.exists() for path in paths.values())

    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", other)
    (tmp_path / "owners" / app.name).unlink()
    assert "none is named by" in run("--delete", code=2)
    assert all(path.exists() for path in paths.values()), "it was another cluster's, or another application's, log"
