"""The executor that settings ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.worker.build import executor_of, options_of
from orchestrator.worker.executor import StepProcessFailed
from orchestrator.worker.loading import load_app

from .rig import APP, Rig

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_steps_run_where_the_settings_and_the_step_say(isolation: str) -> None:
    rig = Rig()
    rig.executor = executor_of(APP, load_app(APP), isolation, ExecutorOptions())(rig, lambda: None)
    try:
        assert (rig.result(rig.start("whoami")) == os.getpid()) is (isolation == "thread")
        assert rig.result(rig.start("in_engine")) == os.getpid()
    finally:
        rig.executor.stop(0)


def test_an_application_that_no_process_can_load_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepProcessFailed):
        executor_of(f"{tmp_path}/nowhere.py:app", load_app(APP), "process", ExecutorOptions())(Rig(), lambda: None)


def test_a_number_of_slots_is_that_of_fail_and_park_steps_too() -> None:
    assert (options_of(64).slots, options_of(64).guarded_slots) == (64, 64)
    assert (options_of(0).slots, options_of(0).guarded_slots) == (8, 8)
    assert (options_of(0, 16).slots, options_of(0, 16).guarded_slots) == (16, 16)
