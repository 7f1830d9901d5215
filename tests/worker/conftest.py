"""Executors for the tests of this folder; each is stopped at the end of its test."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.worker.executor import Executor

from .rig import APP, LONG_S, Rig

MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig() -> Iterator[MakeRig]:
    """Make rigs on step processes; keyword arguments are options."""
    made: list[Executor] = []

    def make(**options: object) -> Rig:
        rig = Rig()
        executor = Executor(APP, ExecutorOptions(**options), rig)  # type: ignore[arg-type]
        made.append(executor)
        executor.wait_ready(LONG_S)
        rig.executor = executor
        return rig

    yield make
    for executor in made:
        executor.stop(0)
        assert not any(alive(pid) for pid in executor.pids())


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    """A rig with the default options."""
    return make_rig()


@pytest.fixture
def free_port() -> int:
    """A port on which nothing listened a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    """Whether a process of that id exists, zombies apart."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before the open, or before the read
        return False
