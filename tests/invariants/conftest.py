"""The same load on the log in memory and on a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from orchestrator.engine.inbox import Inbox
from tests.invariants.load import KafkaSite, Load, MemorySite


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
def load(request: pytest.FixtureRequest) -> Iterator[Load]:
    """An application of its own."""
    name = f"i-{uuid.uuid4().hex[:8]}"
    if request.param == "memory":
        made = Load(name, MemorySite)
    else:
        bootstrap = request.getfixturevalue("kafka").bootstrap
        made = Load(name, lambda app: KafkaSite(app, bootstrap))
    yield made
    made.hold.set()
    made.close()


@pytest.fixture
def memory() -> Iterator[Load]:
    """An application in memory, for faults that only memory can inject."""
    made = Load(f"i-{uuid.uuid4().hex[:8]}", MemorySite)
    yield made
    made.hold.set()
    made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jitter between two claims is for owners that compete; here it would only cost time."""
    pause = Inbox.pause_for
    monkeypatch.setattr(Inbox, "pause_for", lambda inbox, seconds: pause(inbox, seconds / 20))
