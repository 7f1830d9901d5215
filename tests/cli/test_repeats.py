"""`orchestrator dev` says which runs do not repeat themselves under another hash seed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orchestrator.cli import repeats
from orchestrator.cli.repeats import Repeats
from orchestrator.client.calls import Calls
from orchestrator.errors import KafkaUnavailable
from orchestrator.testing import environment
from tests.testing import hash_order

pytestmark = pytest.mark.slow

REFERENCE = "tests.testing.hash_order:app"


@asynccontextmanager
async def nobody() -> AsyncIterator[Calls]:
    """No cluster."""
    raise KafkaUnavailable("away")
    yield


def test_the_run_is_named_once_and_the_others_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> list[str]:
        said = []
        async with environment(hash_order.app, second_process=False) as env:
            looks = Repeats(REFERENCE, nobody)
            for name, workflow in (("sorted", hash_order.ordered), ("shuffled", hash_order.unordered)):
                assert await env.execute(workflow.options(id=name)) == 12
            for _ in range(2):
                await looks.look(env.calls)
                said.append(capsys.readouterr().err)
            assert await env.execute(hash_order.unordered) == 12
            looks._since_ms = 1 << 60
            await looks.look(env.calls)
        return [*said, capsys.readouterr().err]

    first, again, of_other_code = asyncio.run(run())
    assert first.count("\n") == 1
    assert "does not repeat itself: workflow shuffled, event " in first
    assert "hash_order.py:" in first
    assert (again, of_other_code) == ("", "")


def test_without_an_engine_it_looks_again_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "LOOK_S", 0.001)
    looked = threading.Semaphore(0)

    @asynccontextmanager
    async def away() -> AsyncIterator[Calls]:
        looked.release()
        raise KafkaUnavailable("away")
        yield

    looks = Repeats(REFERENCE, away)
    looks.start()
    assert all(looked.acquire(timeout=20) for _ in range(3))
    looks.stop(once_more=True)
    assert not looks._thread.is_alive()


def test_what_never_began_to_look_ends_at_once() -> None:
    """Ctrl-C between the engine's start and the first look."""
    Repeats(REFERENCE, nobody).stop(once_more=True)
