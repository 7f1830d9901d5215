"""The same tests on the log in memory and on a real broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
