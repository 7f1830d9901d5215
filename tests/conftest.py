"""What every test may ask for: the session's seed and the session's broker."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.modes import MODES

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

CONTRACT = Path(__file__).parent / "contract"
SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seed N` repeats a run that printed N."""
    parser.addoption("--seed", type=int, default=None, help="seed of every random choice of the tests")
    parser.addoption("--mode", default="default", choices=sorted(MODES), help="how engines run in tests/contract")
    parser.addoption("--kills", type=int, default=5, help="how many engines die in tests/faults/test_flow.py")
    parser.addoption("--histories", type=int, default=2_000, help="how many random histories tests/property checks")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed once, before the header is printed; processes beside this one (xdist) are told it."""
    chosen = getattr(config, "workerinput", {}).get("seed", config.getoption("--seed"))
    config.stash[SEED] = time.time_ns() % 2**32 if chosen is None else chosen


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A process beside this one begins: one seed for all."""
    node.workerinput["seed"] = node.config.stash[SEED]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`: who needs a broker shares one process, one after the other; the rest runs beside.

    The contract has a process, and a broker, of its own: most of what it does is to wait.
    """
    for item in items:
        if item.get_closest_marker("broker"):
            contract = item.path.is_relative_to(CONTRACT)
            item.add_marker(pytest.mark.xdist_group("contract" if contract else "broker"))


def pytest_report_header(config: pytest.Config) -> str:
    """Print the seed: a failure must be repeatable."""
    return f"seed: {config.stash[SEED]} (repeat with --seed)"


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The session's seed, printed in the header."""
    return pytestconfig.stash[SEED]


@pytest.fixture
def rng(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """A generator of this test alone: the same for the same seed, whatever else runs."""
    return random.Random(f"{seed}/{request.node.nodeid}")


@pytest.fixture(scope="session")
def kafka() -> Iterator[DevKafka]:
    """One real broker for the session (`.bootstrap`); tests keep apart by application and topic names."""
    from orchestrator.devkafka import DevKafka

    broker = DevKafka.start()
    try:
        yield broker
    finally:
        broker.stop()
