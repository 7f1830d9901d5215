"""Every test of the contract runs on the log in memory and on a real broker, in the mode that `--mode` names."""

from __future__ import annotations

import pytest

from tests.contract.modes import MODES
from tests.contract.world import World


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
