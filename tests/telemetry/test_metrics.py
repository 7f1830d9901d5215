"""What an engine's instruments say, and that nobody watches unless somebody asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from orchestrator import Orchestrator, RetryPolicy
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import State
from orchestrator.telemetry.metrics import MetricsObserver
from orchestrator.telemetry.observer import NOBODY
from tests.engine.rig import MemorySite, Rig

app = Orchestrator("measured")


@app.step
async def one_step(x: int) -> int:
    return x + 1


@app.step(retry=RetryPolicy(max_attempts=1))
async def fails() -> int:
    raise LookupError("once is enough")


@app.workflow
async def flow() -> int:
    """Three steps, one of which fails, and a timer."""
    x = await one_step(await one_step(0))
    await asyncio.sleep(0.001)
    try:
        return await fails()
    except LookupError:
        return x + 1


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def said(reader: InMemoryMetricReader) -> Callable[[str], list[Any]]:
    """The data points of an instrument."""

    def points(name: str) -> list[Any]:
        data = reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    return points


def test_an_engine_s_instruments(reader: InMemoryMetricReader, said: Callable[[str], list[Any]]) -> None:
    one = Rig(app, MemorySite(app.name))
    try:
        engine = one.engine(EngineOptions(observer=MetricsObserver(MeterProvider([reader]))))
        one.start("w", flow)
        assert one.result("w") == b"3"
        engine.stop(1.0)
        events = {point.attributes["type"]: point.value for point in said("orchestrator.events")}
        assert events["RunStarted"] == events["TimerFired"] == events["RunCompleted"] == 1
        assert events["StepCompleted"] == 2
        steps = {point.attributes["outcome"]: point.value for point in said("orchestrator.steps")}
        assert steps == {"completed": 2, "failed": 1}
        batches = sum(point.value for point in said("orchestrator.batches"))
        assert batches == len([batch for batch in one.batches() if not batch.is_claim])
        assert sum(point.count for point in said("orchestrator.commit.duration")) == batches
        assert [point.count for point in said("orchestrator.timer.lag")] == [1]
        assert said("orchestrator.timer.lag")[0].min >= 0
        assert sum(point.count for point in said("orchestrator.restore.duration")) == 2
    finally:
        one.close()


def test_partitions_by_state(reader: InMemoryMetricReader, said: Callable[[str], list[Any]]) -> None:
    observer = MetricsObserver(MeterProvider([reader]))
    for number, state in enumerate((State.OWNED, State.OWNED, State.PARKED)):
        observer.state(number, State.RESTORING.value)
        observer.state(number, state.value)
    found = {point.attributes["state"]: point.value for point in said("orchestrator.partitions")}
    assert found == {"restoring": 0, "owned": 2, "parked": 1, "stopped": 0}


def test_nobody_watches_by_default() -> None:
    assert EngineOptions().observer is NOBODY
