"""The probes of every consumer."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from orchestrator.engine.health import Health, Probes
from orchestrator.errors import ConfigurationError


def status(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def well() -> Health:
    return Health(True, True, True)


def test_each_probe_answers_its_question() -> None:
    ready = False
    states: dict[int, str] | None = None
    probes = Probes("127.0.0.1", 0, lambda: Health(True, ready, True, states, "ok", "off")).listen()
    try:
        assert status(probes.port, "/startup") == (200, b'{"ok": true}')
        assert status(probes.port, "/ready") == (503, b'{"ok": false}')
        ready, states = True, {3: "owned"}
        assert status(probes.port, "/ready") == (
            200,
            b'{"ok": true, "partitions": {"3": "owned"}, "anchors": "ok", "checkpoints": "off", "standby": {},'
            b' "rights": "ok"}',
        )
        assert status(probes.port, "/live")[0] == 200
        assert status(probes.port, "/secrets")[0] == 404
    finally:
        probes.close()


def test_a_taken_port_is_named() -> None:
    first = Probes("127.0.0.1", 0, well).listen()
    try:
        with pytest.raises(ConfigurationError, match="ORCHESTRATOR_HEALTH_PORT"), Probes("127.0.0.1", first.port, well):
            pass
    finally:
        first.close()


def test_without_a_port_nothing_listens() -> None:
    with Probes("127.0.0.1", 0, well) as probes:
        assert probes.port == 0
