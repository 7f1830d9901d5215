"""An observer that counts and measures with OpenTelemetry's instruments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from ..core.events import Record
from .observer import Observer
from .tracing import NAME

STEPS = {"StepCompleted": "completed", "StepAttemptFailed": "attempt failed", "StepFailed": "failed"}
"""Events that end an attempt of a step, and what they are called in `orchestrator.steps`."""


class MetricsObserver(Observer):
    """Counters and histograms of one process."""

    def __init__(self, provider: MeterProvider | None = None) -> None:
        """`provider` None is the process's own."""
        meter = metrics.get_meter(NAME, meter_provider=provider)
        self._batches = meter.create_counter("orchestrator.batches", description="Batches that were read back.")
        self._events = meter.create_counter("orchestrator.events", description="Events in them, by type.")
        self._steps = meter.create_counter("orchestrator.steps", description="Ended attempts of steps, by outcome.")
        self._commit = meter.create_histogram(
            "orchestrator.commit.duration", "s", "From a transaction's beginning until its commit returned."
        )
        self._restore = meter.create_histogram(
            "orchestrator.restore.duration", "s", "From the beginning of a take-over until its claim was read back."
        )
        self._restored = meter.create_counter("orchestrator.restore.events", description="Events folded by restores.")
        self._timer = meter.create_histogram("orchestrator.timer.lag", "s", "How late durable timers fire.")
        self._states: dict[int, str] = {}
        meter.create_observable_gauge(
            "orchestrator.partitions", [self._partitions], description="Partitions of this process, by state."
        )
        self._behind: dict[int, int] = {}
        meter.create_observable_gauge(
            "orchestrator.standby.behind", [self._standbys], description="Offsets that followed partitions lack."
        )

    def proven(self, partition: int, records: Sequence[Record], commit_s: float) -> None:
        where = {"partition": partition}
        self._batches.add(1, where)
        self._commit.record(commit_s, where)
        for kind, count in Counter(type(record.event.body).__name__ for record in records).items():
            self._events.add(count, {**where, "type": kind})
            if kind in STEPS:
                self._steps.add(count, {**where, "outcome": STEPS[kind]})

    def restored(self, partition: int, events: int, took_s: float) -> None:
        self._restore.record(took_s, {"partition": partition})
        self._restored.add(events, {"partition": partition})

    def timer(self, partition: int, late_s: float) -> None:
        self._timer.record(late_s, {"partition": partition})

    def state(self, partition: int, state: str) -> None:
        self._states[partition] = state

    def standby(self, partition: int, behind: int | None) -> None:
        if behind is None:
            self._behind.pop(partition, None)
        else:
            self._behind[partition] = behind

    def _standbys(self, options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(behind, {"partition": number}) for number, behind in dict(self._behind).items()]

    def _partitions(self, options: CallbackOptions) -> Iterable[Observation]:
        counted = Counter(dict(self._states).values())
        return [Observation(counted[state], {"state": state}) for state in ("restoring", "owned", "parked", "stopped")]
