"""Every test of the contract runs on the log in memory and on a real broker, in the mode that `--mode` names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.modes import MODES
from tests.contract.world import World

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`make check` leaves the contract to `make test` and `make modes`.

    Processes share no memory: in a mode that has some there is no log in memory to run on.
    """
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)
    if not MODES[config.getoption("--mode")].processes:
        return
    dropped = [one for one in items if _in_memory(one)]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [one for one in items if one not in dropped]


def _in_memory(item: pytest.Item) -> bool:
    spec = getattr(item, "callspec", None)
    return "memory" in getattr(item, "fixturenames", ()) or (spec is not None and spec.params.get("world") == "memory")


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
