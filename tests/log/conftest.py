"""The same tests on the log in memory and on a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.log.guarded import Guarded
from tests.log.guarded_use import As
from tests.log.world import KafkaWorld, MemoryWorld, World


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A cluster with the topics of one application."""
    made = MemoryWorld() if request.param == "memory" else KafkaWorld(request.getfixturevalue("kafka").bootstrap)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def kafka_world(request: pytest.FixtureRequest) -> Iterator[KafkaWorld]:
    """On a real broker alone."""
    made = KafkaWorld(request.getfixturevalue("kafka").bootstrap)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """One such broker for this file."""
    broker = Guarded()
    try:
        yield broker
    finally:
        broker.kafka.stop()


@pytest.fixture
def as_(guarded: Guarded, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> As:
    """An application of its own, of which everybody has the rights of the table."""
    name = f"guarded-{uuid.uuid4().hex[:8]}"
    guarded.allow(name)
    return As(guarded, name, monkeypatch, capfd, tmp_path / "state")
