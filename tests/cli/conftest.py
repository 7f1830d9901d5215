"""A command line against a fake engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.cli import session
from orchestrator.cli.main import main
from tests.client.fake_engine import FakeEngine, FakeTransport


@dataclass
class Ran:
    """What a command line left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as JSON."""
        return json.loads(self.out)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine that every command of this test reaches."""
    fake = FakeEngine()
    monkeypatch.setattr(session, "open_transport", lambda app, settings: FakeTransport(fake))
    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", "shop")
    return fake


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`run("workflow", "show", "order-7")`."""

    def one(*arguments: str) -> Ran:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return one
