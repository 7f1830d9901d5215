"""Exporting as the `OTEL_*` variables say. Without one of them nothing is loaded, nothing listens, nothing leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from ..errors import ConfigurationError
from .observer import NOBODY, Observer

FLUSH_MS = 2_000
OFF = ("", "none")


def start(environ: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Begin to export what this process records; returns what sends the rest before it ends.

    A provider that the application has set already is left alone. Raises ConfigurationError for an exporter that is not
    installed.
    """
    flushes = []
    if (name := exporter_of("traces", environ)) not in OFF:
        flushes += _traces(_load("traces", name, environ))
    if (name := exporter_of("metrics", environ)) not in OFF:
        flushes += _metrics(_load("metrics", name, environ))

    def flush() -> None:
        for one in flushes:
            one(FLUSH_MS)

    return flush


def observer(environ: Mapping[str, str] = os.environ) -> Observer:
    """Who watches an engine of this process: instruments, if metrics are exported; else nobody."""
    if exporter_of("metrics", environ) in OFF:
        return NOBODY
    from .metrics import MetricsObserver

    return MetricsObserver()


def exporter_of(signal: str, environ: Mapping[str, str]) -> str:
    """The exporter that the variables name for `traces` or `metrics`; an endpoint alone means `otlp`."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ""
    said = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return said or ("otlp" if any(environ.get(name) for name in endpoints) else "")


def _load(signal: str, name: str, environ: Mapping[str, str]) -> Any:
    wanted = [name]
    if name == "otlp":
        protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        wanted = [f"otlp_proto_{'grpc' if protocol == 'grpc' else 'http'}", name]
    for one in wanted:
        for found in entry_points(group=f"opentelemetry_{signal}_exporter", name=one):
            return found.load()()
    package = f"opentelemetry-exporter-{wanted[0].replace('_', '-')}"
    raise ConfigurationError(
        f"OTEL_{signal.upper()}_EXPORTER: the exporter {name} is not installed: pip install {package}, or unset it"
    )


def _traces(exporter: Any) -> list[Callable[[int], object]]:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return []
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return [provider.force_flush]


def _metrics(exporter: Any) -> list[Callable[[int], object]]:
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    if isinstance(metrics.get_meter_provider(), MeterProvider):
        return []
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)])
    metrics.set_meter_provider(provider)
    return [provider.force_flush]
