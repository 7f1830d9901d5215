"""Every test of the contract runs on the log in memory and on a real broker, in the mode that `--mode` names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.forced import holding
from tests.contract.modes import MODES, SKIPS
from tests.contract.world import World

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`make check` leaves the contract to `make test` and `make modes`; a mode leaves out what its table names."""
    left_out = [skip for skip in SKIPS if skip.mode == config.getoption("--mode")]
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)
            for skip in left_out:
                if _is_of(item, skip.of):
                    item.add_marker(pytest.mark.skip(reason=skip.reason))


def _is_of(item: pytest.Item, name: str) -> bool:
    spec = getattr(item, "callspec", None)
    return name in getattr(item, "fixturenames", ()) or (spec is not None and spec.params.get("world") == name)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
def world(request: pytest.FixtureRequest) -> World:
    """A place to run an application in."""
    mode = MODES[request.config.getoption("--mode")]
    bootstrap = request.getfixturevalue("kafka").bootstrap if request.param == "kafka" else ""
    return World(mode, bootstrap)


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> World:
    """As `world`, for what only the log in memory can do."""
    return World(MODES[request.config.getoption("--mode")])


@pytest.fixture
def held() -> Iterator[None]:
    """Engines of this process can be held (`tests/contract/forced.py`)."""
    with holding():
        yield
