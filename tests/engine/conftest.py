"""Rigs in memory, ended after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from orchestrator import Orchestrator
from orchestrator.engine.inbox import Inbox
from tests.engine.rig import MemorySite, Rig


@pytest.fixture
def rig() -> Iterator[Callable[[Orchestrator], Rig]]:
    """Makes a rig for an application."""
    made: list[Rig] = []

    def make(app: Orchestrator, partitions: int = 2) -> Rig:
        made.append(Rig(app, MemorySite(app.name, partitions)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jitter between two claims is for owners that compete; here it would only cost time."""
    pause = Inbox.pause_for
    monkeypatch.setattr(Inbox, "pause_for", lambda inbox, seconds: pause(inbox, seconds / 20))
