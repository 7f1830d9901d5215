"""Fakes in the places of steps."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.worker.inline import InlineExecutor
from orchestrator.worker.loading import load_app

from .rig import APP, LONG_S, Rig


def test_a_fake_runs_in_the_place_of_its_step() -> None:
    rig = Rig()
    executor = InlineExecutor(load_app(APP), ExecutorOptions(), rig)
    rig.executor = executor
    try:
        assert rig.result(rig.start("echo", value="x")) == "x"
        executor.replace("echo", lambda value: value * 2)
        assert rig.result(rig.start("echo", value="x")) == "xx"

        async def whoami() -> str:
            return "not a number"

        executor.replace("whoami", whoami)
        failure = rig.outcome(rig.start("whoami")).failure
        assert failure is not None
        assert "DoesNotRoundTrip" in failure.type
        with pytest.raises(ConfigurationError, match="nowhere"):
            executor.replace("nowhere", whoami)
        assert executor.wait_idle(LONG_S)
        assert executor.running() == frozenset()
    finally:
        executor.stop(0)
