"""The executor that an engine or a worker uses, by its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.sdk.execution import ExecutorOptions, Report, StepExecutor

from .executor import Executor
from .routing import RoutedExecutor
from .threads import ThreadExecutor

_READY_S = 60.0


def options_of(slots: int, otherwise: int = ExecutorOptions.slots) -> ExecutorOptions:
    """Bounds with so many slots for blocking steps, and as many for `fail` and `park` ones; 0: `otherwise`."""
    return ExecutorOptions(slots=slots or otherwise, guarded_slots=slots or otherwise)


def executor_of(
    app_ref: str, app: Any, isolation: str, options: ExecutorOptions
) -> Callable[[Report, Callable[[], None]], StepExecutor]:
    """What makes the executor from `report` and `freed`.

    `app_ref` is what step processes load, `app` the same application in this process. `isolation` "process" starts
    step processes, and gives threads to the steps that ask for them; "thread" runs everything in this process. Making
    it waits until a step process has loaded the application; raises StepProcessFailed if none can.
    """

    def in_thread(name: str) -> bool:
        code = app.registry.step(name)
        return code is not None and code.isolation == "thread"

    def make(report: Report, freed: Callable[[], None]) -> StepExecutor:
        told = replace(options, freed=freed)
        if isolation == "thread":
            return ThreadExecutor(app, told, report)
        processes = Executor(app_ref, told, report)
        try:
            processes.wait_ready(_READY_S)
        except BaseException:
            processes.stop(0)
            raise
        return RoutedExecutor(processes, ThreadExecutor(app, told, report), in_thread)

    return make
