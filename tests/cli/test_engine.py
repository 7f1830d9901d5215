"""`orchestrator engine status`: what a running engine says of its partitions, and of those that it follows."""

from __future__ import annotations

import json

import pytest

from orchestrator.cli.main import main
from orchestrator.engine.health import Health, Probes

OWNED = Health(True, True, True, {0: "owned", 2: "owned"}, "ok", "off", {1: {"behind": 12, "problem": ""}})
PARKED = OWNED._replace(
    ready=False, partitions={0: "parked"}, standby={1: {"behind": -1, "problem": "the disk is full"}}
)


def served(health: Health) -> Probes:
    """A health port."""
    return Probes("127.0.0.1", 0, lambda: health).listen()


def test_it_tells_what_is_owned_and_how_far_behind_standbys_are(capsys: pytest.CaptureFixture[str]) -> None:
    probes = served(OWNED)
    try:
        assert main(["engine", "status", "--url", f"http://127.0.0.1:{probes.port}", "-o", "jsonl"]) == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
            {"partition": 0, "state": "owned"},
            {"partition": 1, "state": "standby", "behind": 12, "problem": ""},
            {"partition": 2, "state": "owned"},
        ]
    finally:
        probes.close()


def test_an_engine_that_is_not_ready_is_told_too_by_the_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = served(PARKED)
    monkeypatch.setenv("ORCHESTRATOR_HEALTH_PORT", str(probes.port))
    try:
        assert main(["engine", "status"]) == 1
        said = capsys.readouterr().out
        assert "parked" in said
        assert "the disk is full" in said
    finally:
        probes.close()


def test_a_right_to_read_that_is_missing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    probes = served(OWNED._replace(ready=False, rights="the login engine lacks the right Read on topic shop.commands"))
    try:
        assert main(["engine", "status", "--url", f"http://127.0.0.1:{probes.port}"]) == 1
        assert capsys.readouterr().err == "the login engine lacks the right Read on topic shop.commands\n"
    finally:
        probes.close()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [([], 2, "ORCHESTRATOR_HEALTH_PORT"), (["--url", "nowhere"], 2, "must be an address"),
     (["--url", "http://127.0.0.1:9"], 1, "does not answer as an engine does")],
)  # fmt: skip
def test_what_is_no_engine_is_said(words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "status", *words]) == code
    assert says in capsys.readouterr().err


def test_a_workers_port_is_no_engines(capsys: pytest.CaptureFixture[str]) -> None:
    probes = served(Health(True, True, True))
    try:
        assert main(["engine", "status", "--url", f"http://127.0.0.1:{probes.port}"]) == 1
        assert "tells of no partitions" in capsys.readouterr().err
    finally:
        probes.close()
