"""A command line against a fake engine."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.cli import session
from orchestrator.cli.main import main
from orchestrator.testing import environment
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


@contextmanager
def served(
    app: Orchestrator, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Client], Awaitable[None]]
) -> Iterator[None]:
    """An engine on the log in memory that command lines reach, once what they are to find is prepared."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with environment(app, second_process=False) as client:
            transport = client.calls.caller._transport
            make = type(transport)
            monkeypatch.setattr(
                session, "open_transport", lambda app, settings: make(transport._cluster, app, transport.partitions)
            )
            await prepare(client)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        over.set()
        thread.join()
