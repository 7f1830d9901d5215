"""The probes of a consumer."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.worker.health import Probes


def status(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_each_probe_answers_its_question() -> None:
    ready = False
    probes = Probes("127.0.0.1", 0, {"startup": lambda: True, "ready": lambda: ready}).listen()
    try:
        assert status(probes.port, "/startup") == (200, b"yes\n")
        assert status(probes.port, "/ready") == (503, b"no\n")
        ready = True
        assert status(probes.port, "/ready") == (200, b"yes\n")
        assert status(probes.port, "/secrets") == (404, b"unknown\n")
    finally:
        probes.close()


def test_a_taken_port_is_named() -> None:
    first = Probes("127.0.0.1", 0, {}).listen()
    try:
        with pytest.raises(ConfigurationError, match="ORCHESTRATOR_HEALTH_PORT"), Probes("127.0.0.1", first.port, {}):
            pass
    finally:
        first.close()


def test_without_a_port_nothing_listens() -> None:
    with Probes("127.0.0.1", 0, {}) as probes:
        assert probes.port == 0
